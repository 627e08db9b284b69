"""Writing a pack (docs/format.md, section 3): the same members give the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import BuilderError

_MTIME = 315_532_800  # 1980-01-01, the earliest time that ZIP knows too
_MAX_NAME = 100  # ustar's name field
_LEVEL = 6  # level 9 takes three times as long for 0.8 % less


class PackError(BuilderError):
    """A pack cannot be made from its components."""


@dataclass(frozen=True)
class PackEntry:
    """A file of a pack; ``path`` is relative, with ``/``."""

    path: str
    data: bytes
    executable: bool = False


@dataclass(frozen=True)
class PackFile:
    """A finished pack in the cache. ``name`` is its stem, ``member`` its name in the archive."""

    name: str
    member: str
    path: Path
    size: int
    sha256: str


def write_pack(path: Path, entries: Iterable[PackEntry]) -> None:
    """Write a pack. Readers never see half of it.

    Raises PackError when a name cannot stand in a pack.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            _write_entries(file, entries)
        except BaseException:
            file.close()
            Path(file.name).unlink()
            raise
    Path(file.name).replace(path)


def _write_entries(file: IO[bytes], entries: Iterable[PackEntry]) -> None:
    # GzipFile, since gzip.compress writes what zlib takes for the operating system's number.
    with (
        gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for entry in sorted(entries, key=lambda entry: entry.path):
            archive.addfile(_header(entry), io.BytesIO(entry.data))


def describe_pack(name: str, member: str, path: Path) -> PackFile:
    """The record of a finished pack.

    Its digest is kept beside it, so that a build need not hash packs twice; the writer hashes
    them anyway and the build compares.
    """
    size = path.stat().st_size
    note = path.with_suffix(".sha256")
    known = note.read_text(encoding="ascii").split() if note.is_file() else []
    if len(known) != 2 or known[0] != str(size):
        with path.open("rb") as file:
            known = [str(size), hashlib.file_digest(file, "sha256").hexdigest()]
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as new:
            new.write(" ".join(known))
        Path(new.name).replace(note)
    return PackFile(name, member, path, size, known[1])


def _header(entry: PackEntry) -> tarfile.TarInfo:
    if len(entry.path) > _MAX_NAME or not entry.path.isascii():
        raise PackError(f"{entry.path} has a name that cannot stand in a pack")
    info = tarfile.TarInfo(entry.path)
    info.size = len(entry.data)
    info.mtime = _MTIME
    info.mode = 0o755 if entry.executable else 0o644
    return info
