"""Damage is found and named; the same inputs give the same bytes."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import build_file

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def scratch(built_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy that tests may damage, if they mend it again."""
    path = tmp_path_factory.mktemp("scratch") / "scratch.llamafile"
    path.write_bytes(built_file.read_bytes())
    yield path
    path.unlink()


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def verify(path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # The runtime of the undamaged file looks at the damaged one, whose own may not start.
    return subprocess.run(
        ["sh", str(path), "verify"], env=environment, capture_output=True, text=True, check=False
    )


def places(path: Path) -> list[tuple[str, int]]:
    """The first, the middle and the last byte of every member."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        found = []
        for info in archive.infolist():
            file.seek(info.header_offset + 26)
            lengths = file.read(4)
            start = (
                info.header_offset
                + 30
                + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
            )
            offsets = {start, start + info.file_size // 2, start + info.file_size - 1}
            found += [(info.filename, offset) for offset in sorted(offsets)]
        return found


def test_a_flipped_byte_names_its_member(scratch: Path, environment: dict[str, str]) -> None:
    assert verify(scratch, environment).returncode == 0
    for name, offset in places(scratch):
        flip(scratch, offset)
        done = verify(scratch, environment)
        flip(scratch, offset)
        assert done.returncode != 0, (name, offset)
        assert name in done.stderr + done.stdout, (name, offset, done.stderr)
        assert "Traceback" not in done.stderr
    assert verify(scratch, environment).returncode == 0


def test_a_flipped_byte_between_members_is_found(
    scratch: Path, environment: dict[str, str]
) -> None:
    with zipfile.ZipFile(scratch) as archive:
        first = archive.infolist()[0]
    for offset in (300, 0x4100, 65000, first.header_offset - 1, first.header_offset + 2):
        flip(scratch, offset)
        done = subprocess.run(
            [sys.executable, "-m", "llamafile_build", "verify", str(scratch)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        flip(scratch, offset)
        assert done.returncode == 1, offset
        said = "the head" if offset < 0x10000 else first.filename
        assert said in done.stderr, (offset, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize("keep", [100_000, 30_000_000, -1])
def test_a_truncated_file_says_so(
    built_file: Path, environment: dict[str, str], tmp_path: Path, keep: int
) -> None:
    cut = tmp_path / "cut.llamafile"
    cut.write_bytes(built_file.read_bytes()[:keep])
    done = subprocess.run(
        ["sh", str(cut), "-p", "x"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "cut" in done.stderr or "damaged" in done.stderr


def test_two_builds_are_byte_identical(built_file: Path, smollm2: Path, tmp_path: Path) -> None:
    again = build_file(smollm2, tmp_path / "again.llamafile")
    assert again.read_bytes() == built_file.read_bytes()
