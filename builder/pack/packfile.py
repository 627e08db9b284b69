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

from ..errors import BuilderError

_MTIME = 315_532_800  # 1980-01-01, the earliest time that ZIP knows too
_MAX_NAME = 100  # ustar's name field
_LEVEL = 9


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


def write_pack(folder: Path, key: str, entries: Iterable[PackEntry]) -> Path:
    """Write a pack to ``folder/key.tar.gz`` and return that path.

    Readers never see half of it. Raises PackError when a name cannot stand in a pack.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.tar.gz"
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        try:
            file.write(pack_bytes(entries))
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).replace(path)
    return path


def pack_bytes(entries: Iterable[PackEntry]) -> bytes:
    """A whole pack in memory (tens of megabytes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in sorted(entries, key=lambda entry: entry.path):
            archive.addfile(_header(entry), io.BytesIO(entry.data))
    return gzip.compress(buffer.getvalue(), _LEVEL, mtime=0)


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
