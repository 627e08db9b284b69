"""Unpacking the native pack into the user's cache, once."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..archive import Archive, MemberReader
from ..errors import ArchiveError, NativeError
from ..format.manifest import MemberRecord

_STALE_SECONDS = 24 * 3600
_CHUNK = 1 << 20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def unpack_native(
    archive: Archive, member: str, cache: Path, note: Callable[[str], None] = lambda text: None
) -> Path:
    """The folder which holds the libraries of ``member``, unpacked if it is not there yet.

    It lies below ``cache`` or, when that cannot be written, in the system's temporary folder;
    ``note`` is then told where. Raises ArchiveError for a damaged pack, NativeError when there
    is nowhere to unpack to.
    """
    record = archive.record(member)
    key = record.sha256[:16]
    if _is_complete(cache / "native" / key):
        return cache / "native" / key
    roots = [cache / "native", _shared_root() / "native"]
    if _is_ours(roots[1]) and _is_complete(roots[1] / key):
        return roots[1] / key
    problems = []
    for root in roots:
        try:
            _make_private(root)
            folder = _unpack(archive, record, root, key)
        except OSError as error:
            problems.append(f"{root}: {_reason(error)}")
            continue
        if problems:
            note(f"llama.cpp's libraries went to {folder} (not to {'; '.join(problems)})")
        return folder
    raise NativeError(
        f"llama.cpp's libraries could not be unpacked ({'; '.join(problems)}): free some space, "
        "or set XDG_CACHE_HOME (TMP on Windows) to a folder that can be written"
    )


def _shared_root() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"llamafile-build-{user}"


def _make_private(root: Path) -> None:
    if root.parent == _shared_root():
        root.parent.mkdir(exist_ok=True, mode=0o700)  # `parents` would not apply the mode to it
    root.mkdir(parents=True, exist_ok=True)
    if root.parent == _shared_root() and not _is_ours(root):
        raise PermissionError(errno.EACCES, "it belongs to another user", str(root.parent))


def _is_ours(root: Path) -> bool:
    """Others may write to the temporary folder too: load no library that could be theirs."""
    if not hasattr(os, "getuid"):
        return True  # Windows has a temporary folder for each user
    try:
        status = root.parent.lstat()
    except OSError:
        return False
    shared = stat.S_IWGRP | stat.S_IWOTH
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not status.st_mode & shared
    )


def _is_complete(folder: Path) -> bool:
    """Folders appear under their name when they are whole, but a cache cleaner may have come."""
    try:
        names = (folder / ".complete").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return all((folder / name).is_file() for name in names)


def _unpack(archive: Archive, record: MemberRecord, root: Path, key: str) -> Path:
    _remove_stale(root)
    temporary = Path(tempfile.mkdtemp(prefix=f".{key}.tmp.", dir=root))
    try:
        with archive.open_member(record.name) as pack:
            _check_digest(pack, record)
            pack.seek(0)
            names = _extract(pack, record.name, temporary)
        (temporary / ".complete").write_text("\n".join(names), encoding="ascii")
        temporary.chmod(0o755)
        _move(temporary, root / key)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root / key


def _check_digest(pack: MemberReader, record: MemberRecord) -> None:
    digest = hashlib.sha256()
    while chunk := pack.read(_CHUNK):
        digest.update(chunk)
    if digest.hexdigest() != record.sha256:
        raise ArchiveError(f"{record.name} in the file is damaged: fetch the file again")


def _extract(pack: BinaryIO | MemberReader, name: str, folder: Path) -> list[str]:
    """Unpack a flat tar.gz of regular files; anything else in it is refused."""
    names = []
    try:
        with tarfile.open(fileobj=pack, mode="r|gz") as tar:
            for entry in tar:
                if not entry.isreg() or not _PLAIN_NAME.fullmatch(entry.name):
                    raise ArchiveError(f"{name} holds {entry.name!r}, which is no plain file name")
                source = tar.extractfile(entry)
                assert source is not None
                with (folder / entry.name).open("xb") as out:
                    shutil.copyfileobj(source, out, _CHUNK)
                (folder / entry.name).chmod(0o755 if entry.mode & 0o100 else 0o644)
                names.append(entry.name)
    except tarfile.CompressionError as error:
        raise NativeError(
            "this system has no libz.so.1, which unpacking needs: install the package zlib1g "
            "(Debian, Ubuntu) or zlib (Fedora, Arch)"
        ) from error
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ArchiveError(f"{name} in the file cannot be unpacked: {error}") from error
    return names


def _move(temporary: Path, final: Path) -> None:
    """Put the unpacked folder in place; who comes second keeps what the first has put there."""
    for attempt in range(20):
        try:
            temporary.rename(final)
        except OSError:
            if _is_complete(final):
                return
            if final.exists():
                # Not whole: a cache cleaner took some of it. Move it aside, then try again.
                final.rename(temporary / f"damaged{attempt}")
            elif attempt == 19:
                raise
            else:
                time.sleep(0.1)  # a virus scanner on Windows still has a file open
        else:
            return
    raise OSError(errno.EBUSY, "it is in use", str(final))


def _remove_stale(root: Path) -> None:
    """Remove what killed starts have left; a day is longer than any unpacking takes."""
    for left in root.glob(".*.tmp.*"):
        try:
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC):
        return "no space is left there"
    return error.strerror or str(error)
