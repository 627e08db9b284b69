"""Opening files, whole and damaged."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from llamafile_runtime.archive import open_archive
from llamafile_runtime.errors import ArchiveError

from .conftest import SMALL, write_archive


def test_members_are_where_they_are_said_to_be(small_file: Path) -> None:
    archive = open_archive(small_file)
    data = small_file.read_bytes()
    for record in archive.members[:-1]:
        if record.name in SMALL:
            assert data[record.offset : record.offset + record.size] == SMALL[record.name]
    assert archive.members[-1].name == "manifest.json"
    assert archive.record("model/m.gguf").offset % 65536 == 0


def test_a_member_reads_like_a_file_of_its_own(small_file: Path) -> None:
    archive = open_archive(small_file)
    with archive.open_member("model/m.gguf") as member:
        assert member.read(4) == b"GGUF"
        assert member.seek(-1, io.SEEK_END) == len(SMALL["model/m.gguf"]) - 1
        assert member.read() == b"\0"
        assert member.read(1) == b""
        member.seek(0)
        assert member.read() == SMALL["model/m.gguf"]


def test_an_unknown_member_is_refused(small_file: Path) -> None:
    with pytest.raises(ArchiveError, match=r"no member model/x\.gguf"):
        open_archive(small_file).record("model/x.gguf")


@pytest.mark.parametrize("keep", [0, 10, 65536, 70000, -1, -100])
def test_a_cut_off_file_says_so(small_file: Path, keep: int) -> None:
    small_file.write_bytes(small_file.read_bytes()[:keep])
    with pytest.raises(ArchiveError, match=r"cut off|no file of llamafile-build") as caught:
        open_archive(small_file)
    assert "\n" not in str(caught.value)


def test_other_files_are_told_from_damaged_ones(tmp_path: Path) -> None:
    other = tmp_path / "other.zip"
    other.write_bytes(b"no zip at all")
    with pytest.raises(ArchiveError, match="no file of llamafile-build"):
        open_archive(other)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(ArchiveError, match=r"has no manifest\.json"):
        open_archive(other)
    with pytest.raises(ArchiveError, match="cannot be read"):
        open_archive(tmp_path / "missing")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "new", SMALL, manifest={"format_version": 2})
    with pytest.raises(ArchiveError, match="format version 2"):
        open_archive(path)


def test_a_repacked_file_is_refused(small_file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.llamafile"
    with zipfile.ZipFile(small_file) as old, zipfile.ZipFile(again, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info), zipfile.ZIP_DEFLATED)
    with pytest.raises(ArchiveError, match="changed by another program"):
        open_archive(again)


def test_the_manifest_and_the_directory_must_name_the_same_members(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "x", SMALL)
    document = json.loads(zipfile.ZipFile(path).read("manifest.json"))
    extra = {**document["members"][0], "name": "model/ghost.gguf"}
    write_archive(path, SMALL, manifest={"members": [*document["members"], extra]})
    with pytest.raises(ArchiveError, match=r"lacks model/ghost\.gguf"):
        open_archive(path)
    write_archive(path, SMALL, manifest={"members": document["members"][1:]})
    with pytest.raises(ArchiveError, match=r"manifest\.json lacks"):
        open_archive(path)
