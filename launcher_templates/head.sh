# llamafile-build head 1
#@title@
# A shell script, a ZIP archive and (with Windows among the targets) a Windows program in one.
# Start it as `sh ./FILE`; see what is in it with `unzip -l FILE`.
self=$0
set +e +u
case ${ZSH_VERSION-} in ?*) emulate sh 2>/dev/null ;; esac
set -f
IFS=' 	
'
newline='
'
pack_linux_x64= pack_linux_arm64= pack_macos= pack_windows_x64= uid=
# The boot table: byte offset, size in bytes and SHA-256 of each runtime in this file.
#@boot-table@

say() { printf '%s: %s\n' "$name" "$1" >&2; }
fail() { say "$1"; exit 1; }

# --- which file this is -------------------------------------------------------------------

is_archive() {
    [ -f "$1" ] && [ -r "$1" ] && IFS= read -r line <"$1" || return 1
    [ "$line" != "#@magic@" ] || return 0
    [ "$line" = '#!/bin/sh' ] || return 1
    { IFS= read -r line; IFS= read -r line; } <"$1"
    [ "$line" = '# llamafile-build head 1' ]
}

find_self() {
    case $self in
    /*) is_archive "$self"; return ;;
    */*) self=$PWD/${self#./}; is_archive "$self"; return ;;
    esac
    leaf=$self
    self=$PWD/$leaf
    is_archive "$self" && return
    # A shell that was given a bare name, or found it on PATH and does not say where.
    IFS=:
    for folder in $PATH; do
        case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
        self=$folder/$leaf
        is_archive "$self" && break
    done
    IFS=" 	$newline"
    is_archive "$self"
}

name=llamafile
find_self || fail 'this script has to be started as a file, not read from a pipe: sh ./FILE'
name=${self##*/}

# --- which machine this is ----------------------------------------------------------------

has() { case " $targets " in *" $1 "*) return 0 ;; *) return 1 ;; esac }

on_mac() {
    pack=$pack_macos caches=Library/Caches
    chip=$1
    # A shell under Rosetta calls an Apple silicon machine x86_64, and so would its children.
    if [ "$chip" = x64 ] && [ "$(PATH=$PATH:/usr/sbin sysctl -n sysctl.proc_translated 2>/dev/null)" = 1 ]; then
        chip=arm64
        ! has macos-arm64 || slice=-arm64
    fi
    target=macos-$chip
    if [ "$target" = macos-arm64 ] && ! has macos-arm64 && has macos-x64; then
        target=macos-x64 slice=-x86_64
    fi
}

machine=$(uname -sm 2>/dev/null) || fail 'uname is missing: put it on PATH and start again.'
caches=.cache slice=
case $machine in
'Linux x86_64' | 'Linux amd64') target=linux-x64 pack=$pack_linux_x64 ;;
'Linux aarch64' | 'Linux arm64') target=linux-arm64 pack=$pack_linux_arm64 ;;
'Darwin arm64'*) on_mac arm64 ;;
'Darwin x86_64'*) on_mac x64 ;;
MINGW* | MSYS* | CYGWIN*) fail "on Windows start this file itself, not through sh; its name has to end in .exe." ;;
*) fail "this machine ($machine) is none that this file runs on; it holds: $targets." ;;
esac
{ [ -n "$pack" ] && has "$target"; } ||
    fail "this machine ($machine) needs a file built for $target; this one holds: $targets."

boot_line() { offset=$1 size=$2 sha256=$3; }
boot_line $pack
key=${sha256%"${sha256#????????????????}"}

# --- where its runtime lies ---------------------------------------------------------------

# The user's cache as platformdirs has it: an absolute XDG_CACHE_HOME, an absolute HOME, or the
# home in the user database.
user_root() {
    case ${XDG_CACHE_HOME-} in /*) root=$XDG_CACHE_HOME/llamafile-build; return 0 ;; esac
    home=${HOME-}
    case $home in
    /*) ;;
    *)
        home= user=$(id -un 2>/dev/null)
        case $user in '' | *[!A-Za-z0-9._-]* | -*) ;; *) eval "home=~$user" ;; esac
        case $home in /*) ;; *) why='there is no home folder'; return 1 ;; esac
        ;;
    esac
    root=${home%/}/$caches/llamafile-build
}

shared_root() {
    : "${uid:=$(id -u 2>/dev/null)}"
    case ${TMPDIR-} in /*) root=${TMPDIR%/} ;; *) root=/tmp ;; esac
    root=$root/llamafile-build-$uid
}

beside_root() {
    : "${uid:=$(id -u 2>/dev/null)}"
    root=${self%/*}/.llamafile-build-$uid
}

ls_line() { mode=$1 owner=$3; }

# Others may write to the folder around this one: run nothing there that could be theirs.
is_private() {
    [ -d "$root" ] && [ ! -h "$root" ] || return 1
    ls_line $(ls -ldn "$root" 2>/dev/null)
    [ "$owner" = "$uid" ] || return 1
    case $mode in d????-??-?*) ;; *) return 1 ;; esac
}

found() { host=$root/runtime/$key/bin/llamafile; [ -x "$host" ]; }

find_unpacked() {
    user_root && found && return
    shared_root && is_private && found && return
    beside_root && is_private && found
}

# --- the first start ----------------------------------------------------------------------

check_libc() {
    [ "$(getconf LONG_BIT 2>/dev/null)" != 32 ] ||
        fail "the kernel is 64-bit, but this system's programs are 32-bit; a 64-bit system is needed."
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)
    case $libc in
    'glibc '*) ;;
    *)
        libc=$(ldd --version 2>&1)
        libc=${libc%%"$newline"*}
        case $libc in
        *musl*) fail 'this system has musl as its C library; glibc 2.34 or newer is needed (Debian 12, Ubuntu 22.04, Fedora 35, RHEL 9 or newer have it).' ;;
        *GLIBC* | *'GNU libc'* | *glibc*) ;;
        *)
            [ -e /lib64/ld-linux-x86-64.so.2 ] || [ -e /lib/ld-linux-aarch64.so.1 ] ||
                fail 'no glibc was found on this system; version 2.34 or newer is needed.'
            return
            ;;
        esac
        ;;
    esac
    version=${libc##* }
    minor=${version#*.}
    minor=${minor%%[!0-9]*}
    case $version in
    2.[0-9]*)
        [ "$minor" -ge 34 ] ||
            fail "this system's C library is glibc $version; 2.34 or newer is needed (Debian 12, Ubuntu 22.04, Fedora 35, RHEL 9 or newer have it)."
        ;;
    esac
}

check_tools() {
    for tool in dd gzip tar mkdir mv rm chmod; do
        command -v "$tool" >/dev/null 2>&1 ||
            fail "$tool is missing: the first start needs it on PATH. Install it and start again."
    done
}

# The pack's bytes. Offsets are multiples of 4096, so dd seeks in large steps and reads only
# what it must; the last few bytes go one by one because nothing portable cuts a pipe.
pack_bytes() {
    blocks=$((size / 4096)) rest=$((size % 4096))
    if [ "$blocks" -gt 0 ]; then
        dd if="$self" bs=4096 skip=$((offset / 4096)) count="$blocks" 2>/dev/null || return
    fi
    if [ "$rest" -gt 0 ]; then
        dd if="$self" bs=1 skip=$((offset + size - rest)) count="$rest" 2>/dev/null || return
    fi
}

# Where no tool for SHA-256 works, gzip's own checksum has to do.
check_pack() {
    for tool in sha256sum 'shasum -a 256' 'openssl dgst -sha256'; do
        sum=$(pack_bytes | $tool 2>/dev/null)
        case $sum in
        *"$sha256"*) return ;;
        *[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]*)
            fail 'the file is damaged or cut short: its runtime does not have the SHA-256 that it should. Fetch it again.' ;;
        esac
    done
}

one_line() {
    case $1 in
    *'No space left'* | *'File too large'* | *'uota exceeded'*) printf '%s' 'no space is left there' ;;
    *) printf '%s' "${1%%"$newline"*}" ;;
    esac
}

give_up() { rm -rf "$temporary"; one_line "$1"; exit 1; }

# Programs may be forbidden there (noexec), which `test -x` of some shells does not see.
try_exec() {
    problem=$({ printf '#!/bin/sh\nexit 0\n' >"$temporary/probe" && chmod 755 "$temporary/probe"; } 2>&1) ||
        give_up "${problem:-cannot be written}"
    "$temporary/probe" 2>/dev/null
    [ $? -ne 126 ] || give_up 'no program may run from there (noexec)'
}

move_in() { mv -f "$temporary/$key" "$runtimes/"; }

# Unpacks under $root; prints the reason when that fails. A subshell: its traps and settings
# must not outlive it.
unpack() (
    unset GZIP TAR_OPTIONS
    runtimes=$root/runtime
    problem=$(mkdir -p "$runtimes" 2>&1) || { one_line "$problem"; exit 1; }
    find "$runtimes/." ! -name . -prune -name '.*.tmp.*' -mtime +0 -exec rm -rf {} \; 2>/dev/null
    # mkdir decides who has a name, also between containers that share a home and process ids.
    try=0
    while temporary=$runtimes/.$key.tmp.$$.$try; ! problem=$(mkdir "$temporary" 2>&1); do
        [ -e "$temporary" ] && [ "$try" -lt 99 ] || { one_line "$problem"; exit 1; }
        try=$((try + 1))
    done
    trap 'rm -rf "$temporary"; exit 130' HUP INT TERM
    try_exec
    problem=$(mkdir "$temporary/$key" 2>&1) || give_up "$problem"
    problem=$({
        { pack_bytes || echo 'reading failed' >&3; } |
            { gzip -dc 2>/dev/null || echo 'inflating failed' >&3; } |
            { (cd "$temporary/$key" && tar -xof - 2>&3) || echo 'unpacking failed' >&3; }
    } 3>&1 >/dev/null)
    case $problem in *' failed'*) give_up "$problem" ;; esac
    [ -x "$temporary/$key/bin/llamafile" ] || give_up 'the runtime in the file has no bin/llamafile'
    # A folder that has contents makes mv fail. It is another start's finished work, or damage
    # (a cleaner's): only that is moved away, and never before it was seen to be in the way.
    move_in 2>/dev/null || found || {
        mv -f "$runtimes/$key" "$temporary/damaged" 2>/dev/null
        problem=$(move_in 2>&1) || found || give_up "$problem"
    }
    rm -rf "$temporary"
)

unpack_somewhere() {
    check_tools
    case $target in linux-*) check_libc ;; esac
    [ ! -t 2 ] || say "first start: unpacking the runtime ($(((size + 524288) / 1048576)) MB) ..."
    check_pack
    problems=
    for place in user_root shared_root beside_root; do
        root=
        if $place; then
            if [ "$place" = user_root ]; then
                why=$(unpack) && found && break
            else
                mkdir -m 700 "$root" 2>/dev/null
                why='it is not a folder that only you can write to'
                [ -d "$root" ] || why='it cannot be made'
                is_private && why=$(unpack) && found && break
            fi
        fi
        problems="$problems; ${root:-the user cache}: ${why:-unpacking did not work}"
        root=
    done
    [ -n "$root" ] ||
        fail "the runtime could not be unpacked${problems}. Free some space, or set XDG_CACHE_HOME to a folder where programs may be written and run."
    [ -z "$problems" ] || say "the runtime went to $root (not to${problems#;})."
}

find_unpacked || unpack_somewhere
[ -z "$slice" ] || exec arch "$slice" "$host" --archive "$self" "$@"
exec "$host" --archive "$self" "$@"
exit 126
