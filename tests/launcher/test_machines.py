"""Which runtime the shell half picks, and what it says where none fits.

Other machines are played by small programs named uname, sysctl, arch, getconf and ldd first on
PATH: what they print there is known, and the launcher asks nothing else.
"""

from __future__ import annotations

import os

import pytest

ALL = ("linux_x64", "linux_arm64", "macos")


@pytest.fixture
def play(place):
    """Puts a program on PATH that prints `text`, by exit status `code`."""
    folder = place.root / "played"
    folder.mkdir()
    place.extra["PATH"] = f"{folder}:{os.environ['PATH']}"

    def put(name, text, code=0, script=None):
        body = script or f"printf '%s\\n' '{text}'\nexit {code}"
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def everything(kit, place):
    """An archive with a distinguishable runtime for each pack."""
    packs = {name: kit.unix_pack({"bin/name": (name.encode(), 0o644)}) for name in ALL}
    return kit.write(place.work / "it", packs)


def fails(place, sentence):
    result = place.run("sh", "./it")
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.decode() == f"it: {sentence}\n"


@pytest.mark.parametrize(
    ("machine", "pack"),
    [
        ("Linux x86_64", "linux_x64"),
        ("Linux aarch64", "linux_arm64"),
        ("Darwin arm64", "macos"),
        ("Darwin x86_64", "macos"),
    ],
)
def test_each_machine_gets_its_runtime(machine, pack, kit, place, play, everything):
    play("uname", machine)
    play("sysctl", "0")
    play("arch", "", script='echo "arch was called" >&2; exit 1')
    host = kit.told(place.run("sh", "./it"))[0]
    assert f"/runtime/{everything.key(pack)}/" in host


def test_macs_have_their_own_cache_folder(kit, place, play, everything):
    play("uname", "Darwin arm64")
    tail = f"llamafile-build/runtime/{everything.key('macos')}/bin/llamafile"
    assert kit.told(place.run("sh", "./it"))[0] == f"{place.home}/Library/Caches/{tail}"
    # platformdirs lets XDG decide on macOS too.
    other = kit.told(place.run("sh", "./it", XDG_CACHE_HOME=f"{place.root}/x"))[0]
    assert other == f"{place.root}/x/{tail}"


ARCH = 'printf "%s\\0" "arch $1"; shift; exec "$@"'


def test_rosetta_prefers_arm64(kit, place, play, everything):
    play("uname", "Darwin x86_64")
    play("sysctl", "", script='[ "$*" = "-n sysctl.proc_translated" ] && echo 1')
    play("arch", "", script=ARCH)
    told = kit.told(place.run("sh", "./it", "a b"))
    assert told[0] == "arch -arm64"
    assert f"/{everything.key('macos')}/" in told[1]
    assert told[2:] == ["--archive", str(everything.path), "a b"]


@pytest.mark.parametrize("machine", ["Darwin arm64", "Darwin x86_64"])
def test_an_intel_only_file_runs_under_rosetta(machine, kit, place, play):
    kit.write(place.work / "it", {"macos": kit.unix_pack()}, targets=["macos-x64"])
    play("uname", machine)
    play("sysctl", "1")
    play("arch", "", script=ARCH)
    assert kit.told(place.run("sh", "./it"))[0] == "arch -x86_64"


def test_an_apple_silicon_file_is_refused_on_intel(kit, place, play):
    kit.write(place.work / "it", {"macos": kit.unix_pack()}, targets=["macos-arm64"])
    play("uname", "Darwin x86_64")
    play("sysctl", "", code=1)
    fails(
        place,
        "this machine (Darwin x86_64) needs a file built for macos-x64; "
        "this one holds: macos-arm64.",
    )


def test_a_target_that_is_not_in_the_file(kit, place, play):
    kit.write(place.work / "it", {"linux_x64": kit.unix_pack(), "windows_x64": b"x"})
    play("uname", "Linux aarch64")
    fails(
        place,
        "this machine (Linux aarch64) needs a file built for linux-arm64; "
        "this one holds: linux-x64 windows-x64.",
    )


@pytest.mark.parametrize(
    "machine", ["FreeBSD amd64", "Linux armv7l", "Linux riscv64", "SunOS i86pc"]
)
def test_an_unsupported_machine(machine, place, play, everything):
    play("uname", machine)
    fails(
        place,
        f"this machine ({machine}) is none that this file runs on; "
        "it holds: linux-x64 linux-arm64 macos-arm64 macos-x64.",
    )


def test_a_unix_shell_on_windows(place, play, everything):
    play("uname", "MINGW64_NT-10.0-19045 x86_64")
    fails(
        place,
        "on Windows start this file itself, not through sh; its name has to end in .exe.",
    )


OLD = (
    "this system's C library is glibc {}; 2.34 or newer is needed "
    "(Debian 12, Ubuntu 22.04, Fedora 35, RHEL 9 or newer have it)."
)
MUSL = (
    "this system has musl as its C library; glibc 2.34 or newer is needed "
    "(Debian 12, Ubuntu 22.04, Fedora 35, RHEL 9 or newer have it)."
)


def test_an_old_glibc(place, play, everything):
    play("getconf", "", script='[ "$1" = LONG_BIT ] && echo 64 || echo glibc 2.31')
    fails(place, OLD.format("2.31"))
    assert not place.cache.exists()


def test_an_old_glibc_without_getconf(place, play, everything):
    play("getconf", "", code=1)
    play("ldd", "ldd (Ubuntu GLIBC 2.31-0ubuntu9.9) 2.31\nCopyright (C) 2020")
    fails(place, OLD.format("2.31"))


def test_musl(place, play, everything):
    play("getconf", "", code=1)
    play("ldd", "musl libc (x86_64)\nVersion 1.2.4", code=1)
    fails(place, MUSL)


def test_32_bit_programs_on_a_64_bit_kernel(place, play, everything):
    play("getconf", "", script='[ "$1" = LONG_BIT ] && echo 32')
    fails(
        place,
        "the kernel is 64-bit, but this system's programs are 32-bit; a 64-bit system is needed.",
    )


@pytest.mark.parametrize("version", ["glibc 2.34", "glibc 2.41.9000", "glibc 3.0"])
def test_a_new_enough_glibc(version, kit, place, play, everything):
    play("getconf", "", script=f'[ "$1" = LONG_BIT ] && echo 64 || echo {version}')
    assert kit.told(place.run("sh", "./it"))[2] == str(everything.path)


def test_a_system_that_tells_nothing_about_its_libc(kit, place, play, everything):
    play("getconf", "", code=1)
    play("ldd", "", code=127)
    # There is a loader here: the start goes on.
    assert kit.told(place.run("sh", "./it"))[2] == str(everything.path)
