"""The first start: what can go wrong with a cache, and that it ends in a start or a sentence."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

DAMAGED = (
    "it: the file is damaged or cut short: its runtime does not have the SHA-256 that it should. "
    "Fetch it again.\n"
)


@pytest.fixture
def made(kit, place):
    return kit.write(place.work / "it", {"linux_x64": kit.unix_pack()})


@pytest.fixture
def zeros(kit, place):
    """8 MiB of runtime in 8 KiB of file: fits on a small disk, its contents do not."""
    pack = kit.unix_pack({"bin/lib/zeros": (bytes(8 << 20), 0o644)})
    return kit.write(place.work / "it", {"linux_x64": pack})


@pytest.fixture(scope="module")
def slow_pack(kit):
    """A pack that takes long enough to unpack to be caught at it."""
    noise = random.Random(0).randbytes(48 << 20)
    return kit.unix_pack({"bin/lib/noise": (noise, 0o644)}, level=1)


def tools_without(place, *missing):
    """A folder with every usual tool but some."""
    folder = place.root / "some tools"
    folder.mkdir(exist_ok=True)
    names = "sh uname dd gzip tar mkdir mv rm chmod find id ls sha256sum shasum openssl getconf"
    for name in set(names.split()) - set(missing):
        found = shutil.which(name)
        if found and not (folder / name).exists():
            (folder / name).symlink_to(found)
    return str(folder)


def test_what_is_unpacked(made, kit, place):
    kit.told(place.run("sh", "./it"))
    runtime = place.host(made).parents[1]
    files = {str(p.relative_to(runtime)): p for p in runtime.rglob("*") if p.is_file()}
    assert sorted(files) == ["bin/lib/library.dat", "bin/llamafile"]
    assert files["bin/lib/library.dat"].read_bytes() == b"library.zip"
    assert os.access(files["bin/llamafile"], os.X_OK)
    assert not os.access(files["bin/lib/library.dat"], os.X_OK)
    assert kit.leftovers(place.cache) == []


@pytest.mark.parametrize("size", [4096, 4096 * 3, 4096 * 3 + 1, 4096 * 4 - 1])
def test_packs_of_every_size(size, kit, place):
    """The last block: none over, one byte over, one byte short."""
    noise = random.Random(size).randbytes(size)
    pack = kit.unix_pack({"bin/lib/noise": (noise, 0o644)})
    # A stored gzip of chosen length: shorten the noise until the pack has it.
    for length in range(size, 0, -1):
        if len(pack) <= size:
            break
        pack = kit.unix_pack({"bin/lib/noise": (noise[:length], 0o644)})
    made = kit.write(place.work / "it", {"linux_x64": pack})
    kit.told(place.run("sh", "./it"))
    written = (place.host(made).parent / "lib" / "noise").read_bytes()
    assert noise.startswith(written) and written


@pytest.mark.parametrize("value", [None, "", "relative/cache", "~/cache"])
def test_an_xdg_cache_home_that_does_not_count(value, made, kit, place):
    assert kit.told(place.run("sh", "./it", XDG_CACHE_HOME=value))[0] == str(place.host(made))


def test_the_cache_is_the_one_of_platformdirs(made, kit, place):
    code = "import platformdirs as p; print(p.user_cache_dir('llamafile-build', appauthor=False))"
    for changes in ({}, {"XDG_CACHE_HOME": str(place.root / "x y")}, {"XDG_CACHE_HOME": "x"}):
        told = place.run(sys.executable, "-c", code, **changes).stdout.decode().strip()
        assert kit.told(place.run("sh", "./it", **changes))[0].startswith(f"{told}/runtime/")


def test_many_first_starts_at_once(kit, place, slow_pack):
    made = kit.write(place.work / "it", {"linux_x64": slow_pack})
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: place.run("sh", "./it"), range(6)))
    assert {kit.told(result)[0] for result in results} == {str(place.host(made))}
    assert {result.stderr for result in results} == {b""}
    assert kit.leftovers(place.cache) == []
    assert [p.name for p in (place.cache / "runtime").iterdir()] == [made.key("linux_x64")]
    assert sorted(p.name for p in place.host(made).parents[1].iterdir()) == ["bin"]


def start_and_catch(place):
    """A first start, stopped at the moment when its temporary folder is filling."""
    process = subprocess.Popen(
        ["sh", "./it"],
        cwd=place.work,
        env=place.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while not list(place.cache.glob("runtime/.*/*/bin/lib/noise")):
        assert process.poll() is None and time.monotonic() < until, "it was never seen unpacking"
    return process


def test_a_killed_first_start(kit, place, slow_pack):
    made = kit.write(place.work / "it", {"linux_x64": slow_pack})
    process = start_and_catch(place)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not place.host(made).exists()
    assert kit.told(place.run("sh", "./it"))[0] == str(place.host(made))
    # What the killed one left may still be somebody's: it goes after a day.
    (left,) = (place.cache / "runtime").glob(".*")
    two_days_ago = time.time() - 2 * 86400
    os.utime(left, (two_days_ago, two_days_ago))
    fresh = left.with_name(".0123456789abcdef.tmp.1.0")
    fresh.mkdir()
    other = kit.write(place.work / "it", {"linux_x64": kit.unix_pack()})
    assert kit.told(place.run("sh", "./it"))[0] == str(place.host(other))
    assert kit.leftovers(place.cache) == [fresh.name]


def test_an_interrupted_first_start_cleans_up(kit, place, slow_pack):
    made = kit.write(place.work / "it", {"linux_x64": slow_pack})
    process = start_and_catch(place)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) != 0
    until = time.monotonic() + 60
    while kit.leftovers(place.cache) and time.monotonic() < until:
        time.sleep(0.01)
    assert kit.leftovers(place.cache) == []
    assert not place.host(made).exists()


def test_a_damaged_runtime_folder_is_replaced(made, kit, place):
    folder = place.host(made).parents[1]
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "stale").write_text("x")
    assert kit.told(place.run("sh", "./it"))[0] == str(place.host(made))
    assert not (folder / "bin" / "stale").exists()
    assert kit.leftovers(place.cache) == []


@pytest.mark.parametrize("at", [0, 100, -1])
def test_a_flipped_byte_in_the_pack(at, made, place):
    entry = made.entries["linux_x64"]
    data = bytearray(made.path.read_bytes())
    data[entry.offset + at % entry.size] ^= 1
    made.path.write_bytes(data)
    result = place.run("sh", "./it")
    assert (result.returncode, result.stderr.decode()) == (1, DAMAGED)
    assert not place.cache.exists()


def test_a_truncated_file(made, place):
    entry = made.entries["linux_x64"]
    os.truncate(made.path, entry.offset + entry.size // 2)
    result = place.run("sh", "./it")
    assert (result.returncode, result.stderr.decode()) == (1, DAMAGED)


@pytest.mark.parametrize("tool", ["sha256sum", "shasum", "openssl"])
def test_each_tool_for_sha256_alone(tool, made, kit, place):
    if shutil.which(tool) is None:
        pytest.skip(f"not installed: {tool}")
    others = {"sha256sum", "shasum", "openssl"} - {tool}
    path = tools_without(place, *others)
    assert kit.told(place.run("sh", "./it", PATH=path))[0] == str(place.host(made))
    shutil.rmtree(place.cache)
    data = bytearray(made.path.read_bytes())
    data[made.entries["linux_x64"].offset + 20] ^= 1
    made.path.write_bytes(data)
    assert place.run("sh", "./it", PATH=path).stderr.decode() == DAMAGED


def test_without_any_tool_for_sha256(made, kit, place):
    path = tools_without(place, "sha256sum", "shasum", "openssl")
    assert kit.told(place.run("sh", "./it", PATH=path))[0] == str(place.host(made))
    shutil.rmtree(place.cache)
    entry = made.entries["linux_x64"]
    data = bytearray(made.path.read_bytes())
    data[entry.offset + entry.size // 2] ^= 1
    made.path.write_bytes(data)
    result = place.run("sh", "./it", PATH=path)
    assert result.returncode == 1
    assert "the runtime could not be unpacked" in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1
    assert not list(place.cache.glob("runtime/*"))


@pytest.mark.parametrize("tool", ["dd", "gzip", "tar", "mkdir", "mv", "rm", "chmod"])
def test_a_missing_tool(tool, made, place):
    result = place.run("sh", "./it", PATH=tools_without(place, tool))
    assert (result.returncode, result.stderr.decode()) == (
        1,
        f"it: {tool} is missing: the first start needs it on PATH. Install it and start again.\n",
    )


def test_a_missing_uname(made, place):
    result = place.run("sh", "./it", PATH=tools_without(place, "uname"))
    assert (result.returncode, result.stderr.decode()) == (
        1,
        "it: uname is missing: put it on PATH and start again.\n",
    )


def shared(place, uid=None):
    return place.temporary / f"llamafile-build-{os.getuid() if uid is None else uid}"


def moved_to(place, kit, result, root, because):
    """The start worked from `root`, and said in one line why."""
    assert kit.told(result)[0].startswith(f"{root}/runtime/")
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith(f"it: the runtime went to {root} (not to ")
    assert because in line


def test_a_full_disk(zeros, kit, place, in_namespace):
    mount = f"mkdir -p '{place.home}/.cache'; mount -t tmpfs -o size=1m none '{place.home}/.cache'"
    result = place.run(*in_namespace(mount, ["sh", "./it"]))
    moved_to(place, kit, result, shared(place), "no space is left there")
    assert shared(place).stat().st_mode & 0o777 == 0o700
    # The next start finds it there, without a word.
    result = place.run(*in_namespace(mount, ["sh", "./it"]))
    assert kit.told(result)[0].startswith(str(shared(place)))
    assert result.stderr == b""


def test_everything_is_full(zeros, kit, place, in_namespace):
    """One disk for all, too small: one sentence, and nothing is left on it."""
    everywhere = place.root / "disk"
    everywhere.mkdir()
    mount = f"mount -t tmpfs -o size=1m none '{everywhere}'; cp '{zeros.path}' '{everywhere}/it'"
    # The shell goes on after the launcher, to look at what it left.
    look = 'sh "$0/it"; code=$?; find "$0" -type f >&2; exit $code'
    result = place.run(
        *in_namespace(mount, ["sh", "-c", look, everywhere]),
        HOME=str(everywhere),
        TMPDIR=str(everywhere),
    )
    first, *rest = result.stderr.decode().splitlines()
    assert result.returncode == 1
    assert first.startswith("it: the runtime could not be unpacked; ")
    assert first.count("no space is left there") == 3
    assert rest == [f"{everywhere}/it"]


def test_a_read_only_home(made, kit, place, in_namespace):
    mount = f"mount -t tmpfs -o ro none '{place.home}'"
    result = place.run(*in_namespace(mount, ["sh", "./it"]))
    moved_to(place, kit, result, shared(place), "Read-only file system")


def test_a_home_that_is_not_there(made, kit, place, in_namespace):
    mount = f"mount -t tmpfs -o ro none '{place.home}'"
    result = place.run(*in_namespace(mount, ["sh", "./it"]), HOME=f"{place.home}/gone")
    moved_to(place, kit, result, shared(place), "Read-only file system")


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_no_home_in_the_environment(value, made, kit, place, in_namespace):
    """The user database's home is used, here below a tmpfs so that the real one stays clean."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    mount = f"mount -t tmpfs none '{home}'"
    if str(place.root).startswith(f"{home}/"):
        pytest.skip("the temporary folder lies in the home folder")
    result = place.run(*in_namespace(mount, ["sh", "./it"]), HOME=value)
    assert kit.told(result)[0].startswith(f"{home}/.cache/llamafile-build/runtime/")


def test_a_cache_that_forbids_programs(made, kit, place, in_namespace):
    mount = f"mount -t tmpfs -o noexec none '{place.home}'"
    for shell in ("sh", "bash"):
        result = place.run(*in_namespace(mount, [shell, "./it"]))
        moved_to(place, kit, result, shared(place), "no program may run from there (noexec)")
        shutil.rmtree(shared(place))


def test_no_place_allows_programs(made, kit, place, in_namespace):
    mount = f"mount --bind -o noexec '{place.root}' '{place.root}'"
    mount += f"; mount -o remount,bind,noexec '{place.root}'"
    result = place.run(*in_namespace(mount, ["sh", made.path]), cwd=Path("/"))
    assert result.returncode == 1
    assert result.stderr.decode().count("(noexec)") == 3
    assert result.stderr.count(b"\n") == 1


@pytest.fixture
def open_place(place):
    """A place that other users may enter, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        opened = type(place)(folder)
        opened.temporary.chmod(0o1777)
        yield opened


@pytest.fixture
def stranger(kit, open_place):
    """Starts the file as a user without a home or a name, as containers have."""
    if os.getuid():
        pytest.skip("missing: root, to become another user")
    made = kit.write(open_place.work / "it", {"linux_x64": kit.unix_pack()})
    become = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    return made, lambda: open_place.run(*become, "sh", made.path, HOME=None)


def test_a_user_without_a_home(stranger, kit, open_place):
    _, start = stranger
    moved_to(open_place, kit, start(), shared(open_place, 54321), "there is no home folder")


def test_a_shared_place_that_somebody_else_made(stranger, kit, open_place):
    """In /tmp anyone may put a folder of our name, with a program of his in it."""
    made, start = stranger
    trap = shared(open_place, 54321) / "runtime" / made.key("linux_x64") / "bin" / "llamafile"
    trap.parent.mkdir(parents=True)
    trap.write_text("#!/bin/sh\necho trapped\n")
    trap.chmod(0o755)
    open_place.work.chmod(0o777)
    beside = open_place.work / ".llamafile-build-54321"
    moved_to(open_place, kit, start(), beside, "it is not a folder that only you can write to")
    assert beside.stat().st_mode & 0o777 == 0o700
    assert kit.told(start())[0].startswith(str(beside))


@pytest.mark.parametrize("how", ["link", "writable"])
def test_a_shared_place_that_others_could_change(how, stranger, open_place):
    _, start = stranger
    real = open_place.root / "theirs"
    real.mkdir()
    os.chown(real, 54321, 54321)
    if how == "link":
        shared(open_place, 54321).symlink_to(real)
    else:
        real.rename(shared(open_place, 54321))
        shared(open_place, 54321).chmod(0o777)
    result = start()
    assert result.returncode == 1
    assert "it is not a folder that only you can write to" in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1
