"""Packs as files: reproducible, plain, whole or absent."""

import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamafile_build.pack.packfile import PackEntry, PackError, describe_pack, write_pack

ENTRIES = [
    PackEntry("bin/b", b"1" * 5000, executable=True),
    PackEntry("bin/a", b""),
    PackEntry("c", b"\0\xff"),
]


def test_the_same_entries_give_the_same_bytes(tmp_path: Path) -> None:
    write_pack(tmp_path / "one", ENTRIES)
    write_pack(tmp_path / "two", reversed(ENTRIES))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_form(tmp_path: Path) -> None:
    write_pack(tmp_path / "pack", ENTRIES)
    data = (tmp_path / "pack").read_bytes()
    # RFC 1952: no flags (so no name), time 0, operating system unknown.
    assert data[:8] == b"\x1f\x8b\x08\x00\0\0\0\0" and data[9] == 255
    assert gzip.decompress(data)[257:263] == b"ustar\0"
    with tarfile.open(tmp_path / "pack") as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == ["bin/a", "bin/b", "c"]
        assert [member.mode for member in members] == [0o644, 0o755, 0o644]
        for member in members:
            assert member.isreg()
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mtime == 315_532_800
        contents = [archive.extractfile(member) for member in members]
        assert [file and file.read() for file in contents] == [b"", b"1" * 5000, b"\0\xff"]


@pytest.mark.parametrize("name", ["a" * 101, "ä"])
def test_names_that_do_not_fit(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackError, match="cannot stand in a pack"):
        write_pack(tmp_path / "pack", [PackEntry(name, b"")])
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def entries() -> Iterator[PackEntry]:
        yield ENTRIES[0]
        raise PackError("no more")

    with pytest.raises(PackError):
        write_pack(tmp_path / "pack", entries())
    assert not list(tmp_path.iterdir())


def test_description(tmp_path: Path) -> None:
    path = tmp_path / "pack.tar.gz"
    path.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    for _ in range(2):
        pack = describe_pack("pack", "runtime/pack.tar.gz", path)
        assert (pack.size, pack.sha256, pack.path) == (3, digest, path)
    path.write_bytes(b"")
    assert describe_pack("pack", "runtime/pack.tar.gz", path).sha256.startswith("e3b0c442")
