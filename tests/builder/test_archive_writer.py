"""The archive writer against Python's zipfile, and its promise to leave nothing half-written."""

import hashlib
import io
import random
import zipfile
from pathlib import Path

import pytest

from llamafile_build.archive.copy import Copier
from llamafile_build.archive.layout import Planned
from llamafile_build.archive.writer import (
    MemberSource,
    bytes_member,
    file_member,
    replacing,
    write_archive,
)
from llamafile_build.errors import BuilderError, InputError
from llamafile_runtime.format.manifest import MemberRecord

HEAD = b"#!/bin/sh\n".ljust(65536)


def write(path: Path, members: list[MemberSource]) -> tuple[MemberRecord, ...]:
    with replacing(path) as (out, _):
        return write_archive(out, HEAD, members, lambda records: b"{}\n", lambda count: None)


def test_zipfile_reads_back_what_was_written(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(random.Random(1).randbytes(9_000_001))
    members = [
        bytes_member("runtime/x.tar.gz", b"pack" * 999, 4096),
        bytes_member("licenses/ü.txt", "Ünicode".encode()),
        file_member("model/m.gguf", model, 65536),
    ]
    records = write(tmp_path / "a.zip", members)
    data = (tmp_path / "a.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [*(r.name for r in records), "manifest.json"]
        assert archive.read("model/m.gguf") == model.read_bytes()
    for record in records:
        content = data[record.offset : record.offset + record.size]
        assert hashlib.sha256(content).hexdigest() == record.sha256
    assert records[2].offset % 65536 == 0


@pytest.mark.parametrize("size", [0, 1, 4 << 20, (4 << 20) + 1, (20 << 20) - 3])
def test_digests_match_the_standard_library(size: int) -> None:
    import zlib

    data = random.Random(size).randbytes(size)
    sink = io.BytesIO()
    seen: list[int] = []
    with Copier() as copier:
        digests = copier.copy(io.BytesIO(data), sink, size, seen.append)
    assert sink.getvalue() == data
    assert digests.crc32 == zlib.crc32(data)
    assert digests.sha256 == hashlib.sha256(data).hexdigest()
    assert sum(seen) == size


@pytest.mark.parametrize(("planned", "message"), [(11, "ended after 10 of 11"), (9, "grew")])
def test_a_source_of_another_size_is_refused(tmp_path: Path, planned: int, message: str) -> None:
    member = MemberSource(Planned("m", planned), lambda: io.BytesIO(b"0123456789"))
    with pytest.raises(InputError, match=message):
        write(tmp_path / "a.zip", [member])
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(path) as (out, temporary):
        out.write(b"new")
        assert temporary.exists()
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_result_is_executable(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as (out, _):
        out.write(b"#!/bin/sh\n")
    assert (tmp_path / "x").stat().st_mode & 0o100


def test_full_disk_is_one_sentence() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with (
        Copier() as copier,
        full.open("wb", buffering=0) as sink,
        pytest.raises(OSError, match="No space left"),
    ):
        copier.copy(io.BytesIO(b"x" * 10), sink, 10, lambda count: None)


def test_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match="cannot write into"), replacing(tmp_path / "no" / "x"):
        pass
