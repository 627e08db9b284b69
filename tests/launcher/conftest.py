"""Small real archives for the launcher's tests: a true head before packs with a stand-in host."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from llamafile_build.head import HEAD_SIZE, BootEntry, render_head

EPOCH_1980 = 315532800

# The stand-in for the frozen runtime: tells what it was given, each argument ended by a NUL.
HOST = b"""#!/bin/sh
printf '%s\\0' "$0" "$@"
[ -z "${HOST_CAT-}" ] || cat
exit "${HOST_EXIT:-0}"
"""


def make_pack(files: Mapping[str, tuple[bytes, int]], level: int = 9) -> bytes:
    """A runtime pack as the format has it: sorted ustar, fixed times, gzipped without a name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (data, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), mode, EPOCH_1980
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), level, mtime=0)


def unix_pack(extra: Mapping[str, tuple[bytes, int]] | None = None, level: int = 9) -> bytes:
    """A pack with the stand-in host and a library."""
    return make_pack(
        {
            "bin/llamafile": (HOST, 0o755),
            "bin/lib/library.dat": (b"library.zip", 0o644),
            **(extra or {}),
        },
        level,
    )


@dataclass(frozen=True)
class Made:
    """A written archive and where its packs lie."""

    path: Path
    entries: Mapping[str, BootEntry]

    def key(self, pack: str) -> str:
        return self.entries[pack].sha256[:16]


def write_archive(
    path: Path, packs: Mapping[str, bytes], targets: Sequence[str] | None = None
) -> Made:
    """Head and packs, without the ZIP around them, which no launcher looks at."""
    entries, body, offset = {}, b"", HEAD_SIZE
    for name, data in packs.items():
        entries[name] = BootEntry(offset, len(data), hashlib.sha256(data).hexdigest())
        body += data + b"PK\3\4".ljust(-len(data) % 4096, b"x")[: -len(data) % 4096]
        offset = HEAD_SIZE + len(body)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(render_head(entries, title="a test", targets=targets) + body)
    path.chmod(0o755)
    return Made(path, entries)


@dataclass
class Place:
    """A home of its own for one test, and a way to run things in it."""

    root: Path
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in (self.home, self.temporary, self.work):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "llamafile-build"

    def host(self, made: Made, pack: str = "linux_x64") -> Path:
        return self.cache / "runtime" / made.key(pack) / "bin" / "llamafile"

    def environment(self, **changes: str | None) -> dict[str, str]:
        """What a start sees; None removes a variable."""
        values = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            **self.extra,
        }
        for name, value in changes.items():
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value
        return values

    def run(
        self,
        *command: str | Path,
        cwd: Path | None = None,
        stdin: bytes | int = subprocess.DEVNULL,
        **changes: str | None,
    ) -> subprocess.CompletedProcess[bytes]:
        source = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.work,
            env=self.environment(**changes),
            capture_output=True,
            timeout=120,
            check=False,
            **source,  # type: ignore[call-overload]
        )


def told(result: subprocess.CompletedProcess[bytes]) -> list[str]:
    """What the stand-in host was given, its own path first."""
    assert result.returncode == 0, result.stderr.decode()
    return [os.fsdecode(part) for part in result.stdout.split(b"\0")[:-1]]


def leftovers(folder: Path) -> list[str]:
    """Unfinished or temporary things under a cache root."""
    return sorted(p.name for p in folder.glob("runtime/.*"))


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The functions above, for tests: nothing can import a conftest by name."""
    return SimpleNamespace(
        write=write_archive, pack=make_pack, unix_pack=unix_pack, told=told, leftovers=leftovers
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="session")
def windows_program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The stand-in host for Windows: tests/launcher/probe.c, compiled as the launcher is."""
    folder = tmp_path_factory.mktemp("probe")
    shutil.copy(Path(__file__).with_name("probe.c"), folder / "probe.c")
    target = ["-target", "x86_64-windows-gnu"]
    # fmt: off
    for command in (
        ["cc", *target, "-Os", "-ffreestanding", "-fno-stack-protector", "-c", "probe.c",
         "-o", "probe.obj"],
        ["build-exe", "probe.obj", *target, "-O", "ReleaseSmall", "-fstrip", "--name", "probe",
         "-fentry=probe_start", "--subsystem", "console", "-lkernel32"],
    ):
        subprocess.run(
            [sys.executable, "-m", "ziglang", *command], cwd=folder, check=True, timeout=600
        )
    # fmt: on
    return (folder / "probe.exe").read_bytes()


@pytest.fixture(scope="session")
def windows_pack(windows_program: bytes) -> bytes:
    return make_pack(
        {
            "bin/llamafile.exe": (windows_program, 0o755),
            "bin/lib/library.dat": (b"library.zip", 0o644),
            "bin/lib/deep/er/data.bin": (bytes(range(256)) * 1000, 0o644),
        }
    )


@pytest.fixture(scope="session", params=["polyglot", "plain"])
def packs(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """Packs of an archive with and without Windows: the two kinds of head."""
    linux = {"linux_x64": unix_pack()}
    # The shell never looks into the Windows pack: any bytes do.
    return (
        linux | {"windows_x64": b"\x1f\x8b not unpacked"} if request.param == "polyglot" else linux
    )


@pytest.fixture
def in_namespace() -> Callable[[str, Sequence[str | Path]], list[str]]:
    """Prefixes a command with mounts that only it sees; skips where that is not allowed."""
    probe = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("missing: the right to mount (root), for tmpfs in a mount namespace")

    def wrap(mounts: str, command: Sequence[str | Path]) -> list[str]:
        script = f'set -e; {mounts}; exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, "sh", *map(str, command)]

    return wrap
