"""Writing the archive: head, members in order, manifest, central directory."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from llamafile_runtime.format.layout import MANIFEST_NAME
from llamafile_runtime.format.manifest import MemberRecord

from ..errors import BuilderError
from .copy import ByteSource, Copier, Progress
from .layout import Placed, Planned, place
from .records import Entry, central_directory, local_header

_FLUSH_EVERY = 256 << 20


class ClosableSource(ByteSource, Protocol):
    """A ByteSource that the writer closes when it has read it."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class MemberSource:
    """A member to be written: ``open`` gives a fresh reader of exactly ``planned.size`` bytes."""

    planned: Planned
    open: Callable[[], ClosableSource]


def bytes_member(name: str, data: bytes, alignment: int = 1) -> MemberSource:
    """A member whose bytes are in memory."""
    return MemberSource(Planned(name, len(data), alignment), lambda: io.BytesIO(data))


def file_member(name: str, path: Path, alignment: int = 1) -> MemberSource:
    """A member that is a file on disk, with the size that it has now."""
    size = path.stat().st_size
    return MemberSource(Planned(name, size, alignment), lambda: path.open("rb", buffering=0))


def write_archive(
    out: BinaryIO,
    head: bytes,
    members: Sequence[MemberSource],
    make_manifest: Callable[[tuple[MemberRecord, ...]], bytes],
    progress: Progress,
) -> tuple[MemberRecord, ...]:
    """Write a whole archive to ``out``, an empty file opened for writing without buffering.

    ``make_manifest`` is called once every other member's SHA-256 is known and returns
    manifest.json, the last member. Returns the records of the members before it. Raises
    InputError when a source is shorter or longer than planned, OSError when the disk is full.
    """
    placed = place([member.planned for member in members], len(head))
    out.write(head)
    entries: list[Entry] = []
    records: list[MemberRecord] = []
    with _early_writeback(out) as wrote, Copier() as copier:

        def advance(count: int) -> None:
            wrote(count)
            progress(count)

        for spot, member in zip(placed, members, strict=True):
            entry, record = _write_member(out, spot, member, copier, advance)
            entries.append(entry)
            records.append(record)
    manifest = make_manifest(tuple(records))
    start = placed[-1].end if placed else len(head)
    last = place([Planned(MANIFEST_NAME, len(manifest))], start)[0]
    with Copier() as copier:
        member = bytes_member(MANIFEST_NAME, manifest)
        entries.append(_write_member(out, last, member, copier, progress)[0])
    out.seek(last.end)
    out.write(central_directory(entries, last.end))
    return tuple(records)


@contextmanager
def replacing(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file that takes the place of ``path`` when the block ends without an error.

    Yields the file, unbuffered, and the temporary path in the same folder that it has until then.
    At the end it is made executable, flushed to disk and renamed; on any error, an interrupt
    included, it is removed and ``path`` stays as it was.
    Raises BuilderError when the folder cannot be written to or has no room.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise BuilderError(f"cannot write into {path.parent}: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w+b", buffering=0) as out:
            yield out, temporary
            os.fsync(out.fileno())
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise BuilderError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_member(
    out: BinaryIO, spot: Placed, member: MemberSource, copier: Copier, progress: Progress
) -> tuple[Entry, MemberRecord]:
    # The header holds the CRC-32, which is known only afterwards: it is written last.
    out.seek(spot.data_offset)
    source = member.open()
    try:
        digests = copier.copy(source, out, spot.size, progress)
    finally:
        source.close()
    entry = Entry(spot.name, spot.size, digests.crc32, spot.header_offset)
    out.seek(spot.header_offset)
    out.write(local_header(entry))
    return entry, MemberRecord(spot.name, spot.size, spot.data_offset, digests.sha256)


@contextmanager
def _early_writeback(out: BinaryIO) -> Iterator[Callable[[int], None]]:
    """Have the kernel write data out while more is copied, so that the last fsync is short."""
    pending = 0
    due = threading.Event()
    finished = threading.Event()

    def flush() -> None:
        while not finished.is_set():
            due.wait()
            due.clear()
            if not finished.is_set():
                os.fsync(out.fileno())

    def wrote(count: int) -> None:
        nonlocal pending
        pending += count
        if pending >= _FLUSH_EVERY:
            pending = 0
            due.set()

    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    try:
        yield wrote
    finally:
        finished.set()
        due.set()
        thread.join()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows has no handle on a folder to flush
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_hex(data: bytes) -> str:
    """SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()
