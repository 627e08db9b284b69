"""Writing members of the file to disk."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from .archive import Archive
from .errors import ArchiveError, RuntimeFailure

_CHUNK = 4 << 20


def extract_members(
    archive: Archive, members: Sequence[str] | None, folder: Path, *, force: bool
) -> Iterator[Path]:
    """Write members (None: all) below ``folder`` under their own names; gives each path.

    A path appears only when it is complete. Raises RuntimeFailure when one exists and not
    ``force``, ArchiveError for an unknown member.
    """
    names = [record.name for record in archive.members]
    wanted = names if members is None else list(dict.fromkeys(members))
    targets = {name: _target(archive.record(name).name, folder) for name in wanted}
    for path in targets.values():
        if path.exists() and not force:
            raise RuntimeFailure(f"{path} exists; --force replaces it, -o chooses another folder")
    for name, path in targets.items():
        _write(archive, name, path)
        yield path


def _target(name: str, folder: Path) -> Path:
    """Where a member goes; a name that leads out of the folder is refused."""
    parts = PurePosixPath(name).parts
    odd = any(part in ("", ".", "..") or set(part) & set('\\:*?"<>|') for part in parts)
    if not parts or odd or name.startswith("/"):
        raise ArchiveError(f"the file has a member {name!r}, which is no name to write to")
    return folder.joinpath(*parts)


def _write(archive: Archive, name: str, path: Path) -> None:
    size = archive.record(name).size
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent))
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with archive.open_member(name) as source, os.fdopen(descriptor, "wb") as out:
                shutil.copyfileobj(source, out, _CHUNK)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise RuntimeFailure(f"{path} cannot be written: {error.strerror or error}") from error
