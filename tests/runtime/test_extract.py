"""Names in a file that would lead out of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamafile_runtime.archive import open_archive
from llamafile_runtime.errors import ArchiveError
from llamafile_runtime.extract import extract_members

from .conftest import SMALL, write_archive


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "c:x", "a\\..\\x", "a//b/../x"])
def test_no_member_leaves_the_folder(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / "in" / "f", {**SMALL, name: b"evil"})
    out = tmp_path / "out"
    with pytest.raises(ArchiveError, match="no name to write to"):
        list(extract_members(open_archive(path), None, out, force=True))
    assert not out.exists()


def test_nothing_unfinished_is_left(small_file: Path, tmp_path: Path) -> None:
    archive = open_archive(small_file)
    small_file.write_bytes(small_file.read_bytes()[: archive.record("model/m.gguf").offset + 10])
    with pytest.raises(ArchiveError, match="cut off"):
        list(extract_members(archive, ["model/m.gguf"], tmp_path / "out", force=False))
    assert list((tmp_path / "out" / "model").iterdir()) == []
