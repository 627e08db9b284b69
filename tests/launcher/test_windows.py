"""The Windows half of the launcher, run under Wine."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from llamafile_build.head import windows_launcher

pytestmark = pytest.mark.wine

RUNTIME = "AppData/Local/llamafile-build/Cache/runtime"
TAILS = [
    "a b",
    '"a b" c',
    '"" x ""',
    'say\\"hi\\" "tail\\\\"',
    "--prompt *",
    '"100% & more"',
    "two  blanks\tand a tab",
]


@dataclass(frozen=True)
class Wine:
    """A Windows of its own: one prefix for the session, a user's folders that tests empty."""

    prefix: Path

    @property
    def user(self) -> Path:
        (user,) = (p for p in (self.prefix / "drive_c/users").iterdir() if p.name != "Public")
        return user

    @property
    def runtimes(self) -> Path:
        return self.user / RUNTIME

    @property
    def temporary(self) -> Path:
        return self.user / "Temp"

    def environment(self, **changes):
        return {
            **os.environ,
            "WINEPREFIX": str(self.prefix),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=",
            "LC_ALL": "C.UTF-8",
            **changes,
        }

    def run(self, *command, cwd=None, stdin=b"", **changes):
        return subprocess.run(
            ["wine", *map(str, command)],
            cwd=cwd,
            env=self.environment(**changes),
            input=stdin,
            capture_output=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="session")
def booted(tmp_path_factory, debian_tools):
    debian_tools("wine")
    wine = Wine(tmp_path_factory.mktemp("wine") / "prefix")
    start = {"env": wine.environment(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["wine", "wineboot", "-i"], check=True, **start)
    # One program that stays keeps Wine's services up, which take seconds to start, and which
    # would hold the pipes of the test that started them.
    keeper = subprocess.Popen(["wine", "cmd"], stdin=subprocess.PIPE, **start)
    subprocess.run(["wine", "cmd", "/c", "exit"], check=True, **start)
    yield wine
    keeper.communicate()
    subprocess.run(["wineserver", "-k"], check=False, **start)


@pytest.fixture
def wine(booted):
    for folder in (
        booted.user / "AppData/Local/llamafile-build",
        booted.temporary / "llamafile-build",
    ):
        shutil.rmtree(folder, ignore_errors=True)
    return booted


@pytest.fixture
def made(kit, windows_pack, tmp_path):
    packs = {"linux_x64": kit.unix_pack(), "windows_x64": windows_pack}
    return kit.write(tmp_path / "work" / "it.exe", packs)


def windows_path(path):
    return f"Z:{path}".replace("/", "\\")


def line_of(result):
    """The command line that the stand-in host saw, split into host, archive and the rest."""
    assert result.returncode == 0, result.stderr.decode()
    host, _, rest = result.stdout.decode().removesuffix("\n").partition(" --archive ")
    archive, _, tail = rest.removeprefix('"').partition('"')
    return host.strip('"'), archive, tail.removeprefix(" ")


def batch(wine, made, tail="", **variables):
    """Starts the file from a batch file: its line arrives untouched, where Wine would quote the
    arguments anew, and variables that Wine takes from its registry can be set."""
    lines = ["@echo off", "chcp 65001 >nul"]
    lines += [f"set {name}={value}" for name, value in variables.items()]
    lines += [f'"{windows_path(made.path)}" {tail}'.rstrip().replace("%", "%%")]
    (made.path.parent / "go.bat").write_bytes("\r\n".join([*lines, ""]).encode())
    return wine.run("cmd", "/c", "go.bat", cwd=made.path.parent)


def sentences(result):
    """What the launcher said, without its word about Wine."""
    lines = result.stderr.decode().splitlines()
    return [line for line in lines if "started by Wine" not in line]


def test_first_and_second_start(wine, made):
    first = line_of(wine.run(made.path, "x"))
    runtime = wine.runtimes / made.key("windows_x64")
    assert first[0].endswith(rf"\llamafile-build\Cache\runtime\{runtime.name}\bin\llamafile.exe")
    assert first[1:] == (windows_path(made.path), "x")
    assert sorted(str(p.relative_to(runtime)) for p in runtime.rglob("*") if p.is_file()) == [
        "bin/lib/deep/er/data.bin",
        "bin/lib/library.dat",
        "bin/llamafile.exe",
    ]
    assert (runtime / "bin/lib/deep/er/data.bin").read_bytes() == bytes(range(256)) * 1000
    assert [p.name for p in wine.runtimes.iterdir()] == [runtime.name]
    (runtime / "bin/lib/mark").touch()
    before = {p: p.stat().st_mtime_ns for p in wine.runtimes.rglob("*")}
    # Damage in the pack is not even seen: a second start reads nothing of it.
    os.truncate(made.path, made.entries["windows_x64"].offset)
    assert line_of(wine.run(made.path)) == (*first[:2], "")
    assert {p: p.stat().st_mtime_ns for p in wine.runtimes.rglob("*")} == before


@pytest.mark.parametrize("tail", TAILS)
def test_arguments_arrive_as_they_were_written(tail, wine, made, tmp_path):
    result = batch(wine, made, tail=tail)
    assert line_of(result)[2] == tail


def test_arguments_in_any_script(wine, made):
    assert line_of(wine.run(made.path, "é", "模型", "🦙"))[2] == "é 模型 🦙"


def test_wine_is_told_about_the_native_way(wine, made):
    for _ in ("first", "second"):
        assert wine.run(made.path).stderr.decode().splitlines() == [
            "it.exe: started by Wine. On Linux and macOS `sh ./it.exe` runs it natively, "
            "and faster."
        ]


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_exit_status(code, wine, made):
    assert wine.run(made.path, PROBE=f"exit {code}").returncode == code


def test_stdin_is_the_hosts(wine, made):
    data = b"a\r\nb\0" * 30000
    assert wine.run(made.path, PROBE="cat", stdin=data).stdout.endswith(b"\n" + data)


@pytest.mark.parametrize("name", ["with space.exe", "ünï 模型 🦙.exe", "it's (1) & %x%.exe"])
def test_odd_names(name, wine, made):
    path = made.path.rename(made.path.parent / name)
    assert line_of(wine.run(path))[1] == windows_path(path)


def test_a_path_longer_than_max_path(wine, made):
    folder = made.path.parent / ("long " * 20 + "x") / ("päth " * 20 + "x") / ("z" * 100)
    folder.mkdir(parents=True)
    path = made.path.rename(folder / "it.exe")
    assert len(windows_path(path)) > 300
    archive = line_of(wine.run(path))[1]
    assert archive.removeprefix("\\\\?\\") == windows_path(path)


def test_a_cache_too_deep_for_programs(wine, made, tmp_path):
    local = tmp_path / ("cache " * 18 + "x") / ("c" * 110)
    local.mkdir(parents=True)
    result = batch(wine, made, LOCALAPPDATA=windows_path(local))
    assert r"\Temp\llamafile-build\runtime" in line_of(result)[0]
    (sentence,) = sentences(result)
    assert sentence.endswith(r"\llamafile-build\Cache: the folder's path is too long.")


@pytest.mark.parametrize("name", ["big", "big.llamafile"])
def test_a_launcher_beside_its_archive(name, wine, made):
    """What a file over 4 GiB gets, since Windows runs none so large."""
    archive = made.path.rename(made.path.parent / name)
    launcher = made.path.parent / "big.exe"
    launcher.write_bytes(windows_launcher())
    assert line_of(wine.run(launcher, "x"))[1:] == (windows_path(archive), "x")


def test_a_launcher_whose_archive_is_larger_than_windows_can_run(wine, made):
    archive = made.path.rename(made.path.parent / "big.llamafile")
    os.truncate(archive, 5 << 30)
    launcher = made.path.parent / "big.exe"
    launcher.write_bytes(windows_launcher())
    assert line_of(wine.run(launcher))[1] == windows_path(archive)


def test_a_launcher_alone(wine, tmp_path):
    launcher = tmp_path / "alone.exe"
    launcher.write_bytes(windows_launcher())
    result = wine.run(launcher)
    assert result.returncode == 1
    assert sentences(result) == [
        'alone.exe: this launcher needs its archive beside it: put "alone.llamafile" (or "alone"), '
        "built with Windows among its targets, into the same folder."
    ]


def test_an_archive_without_windows_beside_the_launcher(wine, kit, tmp_path):
    kit.write(tmp_path / "alone.llamafile", {"linux_x64": kit.unix_pack()})
    launcher = tmp_path / "alone.exe"
    launcher.write_bytes(windows_launcher())
    assert wine.run(launcher).returncode == 1


@pytest.mark.parametrize("at", [0, 1000, -1])
def test_a_flipped_byte_in_the_pack(at, wine, made):
    entry = made.entries["windows_x64"]
    data = bytearray(made.path.read_bytes())
    data[entry.offset + at % entry.size] ^= 1
    made.path.write_bytes(data)
    result = wine.run(made.path)
    assert result.returncode == 1
    assert sentences(result) == [
        "it.exe: the file is damaged: its Windows runtime does not have the SHA-256 that it "
        "should. Fetch it again."
    ]
    assert not wine.runtimes.exists()


def test_a_truncated_file(wine, made):
    os.truncate(made.path, made.entries["windows_x64"].offset + 100)
    result = wine.run(made.path)
    assert result.returncode == 1
    assert sentences(result) == [
        "it.exe: the file is cut short: its download or copy did not end. Fetch it again."
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "bin/../../evil",
        "/evil",
        "C:/evil",
        "bin\\evil",
        "bin//x",
        "a:b",
        "bin/x.",
        "./x",
    ],
)
def test_a_pack_that_would_leave_its_folder(name, wine, kit, windows_program, tmp_path):
    pack = kit.pack({"bin/llamafile.exe": (windows_program, 0o755), name: (b"evil", 0o644)})
    made = kit.write(tmp_path / "it.exe", {"windows_x64": pack})
    result = wine.run(made.path)
    assert result.returncode == 1
    (sentence,) = sentences(result)
    assert sentence.startswith("it.exe: the runtime could not be unpacked; not to ")
    assert "is not a pack of plain files" in sentence
    assert not list(wine.prefix.rglob("evil*")) and not list(tmp_path.rglob("evil*"))
    assert list(wine.runtimes.iterdir()) == []


def test_a_pack_that_is_no_gzip(wine, kit, tmp_path):
    made = kit.write(tmp_path / "it.exe", {"windows_x64": b"no pack at all " * 1000})
    result = wine.run(made.path)
    assert result.returncode == 1
    assert "is not a pack of plain files" in sentences(result)[0]


def test_many_first_starts_at_once(wine, made, kit):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: wine.run(made.path), range(4)))
    assert len({line_of(result) for result in results}) == 1
    assert [p.name for p in wine.runtimes.iterdir()] == [made.key("windows_x64")]


def test_a_damaged_runtime_folder_is_replaced(wine, made):
    folder = wine.runtimes / made.key("windows_x64")
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "stale").touch()
    line_of(wine.run(made.path))
    assert not (folder / "bin" / "stale").exists()
    assert [p.name for p in wine.runtimes.iterdir()] == [folder.name]


def test_what_killed_starts_left_goes_after_a_day(wine, made):
    names = {".0123456789abcdef.tmp.8-1": 2, ".0123456789abcdef.tmp.8-2": 0}
    for name, days in names.items():
        (wine.runtimes / name / "pack" / "bin").mkdir(parents=True)
        (wine.runtimes / name / "pack" / "bin" / "x").touch()
        then = time.time() - days * 86400
        os.utime(wine.runtimes / name, (then, then))
    line_of(wine.run(made.path))
    assert sorted(p.name for p in wine.runtimes.iterdir()) == [
        ".0123456789abcdef.tmp.8-2",
        made.key("windows_x64"),
    ]


def test_a_cache_that_cannot_be_written(wine, made):
    # A file where a folder has to be: true for root as well.
    blocker = wine.user / "AppData/Local/llamafile-build"
    blocker.touch()
    try:
        result = wine.run(made.path)
        second = wine.run(made.path)
    finally:
        blocker.unlink()
    assert r"\Temp\llamafile-build\runtime" in line_of(result)[0]
    (sentence,) = sentences(result)
    assert sentence.startswith("it.exe: the runtime went to C:\\")
    assert "; not to C:\\" in sentence
    assert line_of(second) == line_of(result) and sentences(second) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB, mounted for all: the server that does Wine's work has to see it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("missing: the right to mount (root), for a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk(wine, kit, windows_program, small_disk):
    zeros = {"bin/zeros": (bytes(8 << 20), 0o644)}
    pack = kit.pack({"bin/llamafile.exe": (windows_program, 0o755), **zeros})
    made = kit.write(small_disk / "it.exe", {"windows_x64": pack})
    here = windows_path(small_disk)
    result = batch(wine, made, LOCALAPPDATA=here, TEMP=here, TMP=here)
    assert result.returncode == 1
    (sentence,) = sentences(result)
    assert sentence.startswith("it.exe: the runtime could not be unpacked; not to ")
    assert sentence.count("(112)") == 3  # ERROR_DISK_FULL
    left = sorted(path.name for path in small_disk.rglob("*") if path.is_file())
    assert left == ["go.bat", "it.exe"]


def read_until(terminal, text, seconds=60):
    """What a terminal shows until `text` is in it."""
    seen, until = b"", time.monotonic() + seconds
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, until - time.monotonic()))
        assert ready, seen
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            raise AssertionError(seen) from None
    return seen


def test_ctrl_c_reaches_the_host_and_its_answer_us(wine, made):
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe("wine", ["wine", str(made.path)], wine.environment(PROBE="ctrl-c"))
    try:
        read_until(terminal, b"--archive")
        os.write(terminal, b"\x03")
        until = time.monotonic() + 60
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
            if select.select([terminal], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    os.read(terminal, 4096)
        assert ended[0] == pid
        assert os.waitstatus_to_exitcode(ended[1]) == 42
    finally:
        os.close(terminal)


def test_a_killed_launcher_takes_its_host_along(wine, made):
    process = subprocess.Popen(
        ["wine", str(made.path)],
        env=wine.environment(PROBE="ctrl-c"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert b"--archive" in process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The pipe closes when the last process that holds it has ended. A host left alone would wait
    # for its minute, and then write.
    assert process.stdout.read() == b""
