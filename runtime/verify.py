"""Checking every byte of a built file against docs/format.md.

What must stand at each place follows from the manifest, so headers and directory are made
again from it and compared: a byte that differs is found wherever it lies.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from typing import BinaryIO

from .archive import Archive
from .errors import ArchiveError
from .format.layout import MANIFEST_NAME
from .format.manifest import MemberRecord
from .format.targets import boot_key

_CHUNK = 4 << 20
_U32 = 0xFFFF_FFFF
_U16 = 0xFFFF
_DATE_1980 = 0x0021
_UTF8 = 1 << 11
_STORED, _ZIP64 = 10, 45  # versions needed to extract (APPNOTE 4.4.3.2)
_UNIX = 3 << 8
_MODE_0644 = 0o100644 << 16
_CRC_AT = 14  # of a local header, APPNOTE 4.3.7
_BOOT_LINE = re.compile(rb"^pack_(\w+)='(\d+) (\d+) ([0-9a-f]{64})'$", re.MULTILINE)

Progress = Callable[[int], object]


def verify_archive(archive: Archive, progress: Progress = lambda count: None) -> None:
    """Read the whole file. ``progress`` is told how many bytes were read since its last call.

    Raises ArchiveError naming the member, or the place outside of all members, that differs.
    """
    with archive.path.open("rb") as file:
        _check_head(file, archive, progress)
        position = archive.manifest.head.size
        records = b""
        for member in sorted(archive.members, key=lambda member: member.offset):
            records += _check_member(file, member, position, progress)
            position = member.offset + member.size
        _check_end(file, archive, records, position)
        progress(archive.size - position)


def _check_head(file: BinaryIO, archive: Archive, progress: Progress) -> None:
    expected = archive.manifest.head
    head = _read(file, 0, expected.size)
    progress(len(head))
    if hashlib.sha256(head).hexdigest() != expected.sha256:
        raise _damaged("the launcher at the file's beginning")
    told = {
        key.decode(): (int(offset), int(size), digest.decode())
        for key, offset, size, digest in _BOOT_LINE.findall(head)
    }
    packs = {
        boot_key(member.name.removeprefix("runtime/").removesuffix(".tar.gz")): (
            member.offset, member.size, member.sha256,
        )
        for member in archive.members
        if member.name.startswith("runtime/")
    }  # fmt: skip
    if told != packs:
        raise ArchiveError("the launcher's table of runtimes and manifest.json disagree")


def _check_member(file: BinaryIO, member: MemberRecord, end: int, progress: Progress) -> bytes:
    """Check what lies from ``end``, where the member before ended; gives the central record."""
    name = member.name
    size = len(_local_header(member, 0))
    start = member.offset - size
    if start < end:
        raise ArchiveError(f"{name} overlaps what stands before it")
    gap = _read(file, end, start - end)
    progress(len(gap) + size)
    if any(gap):
        raise _damaged(f"the padding before {name}")
    header = _read(file, start, size)
    crc = int.from_bytes(header[_CRC_AT : _CRC_AT + 4], "little")
    if header != _local_header(member, crc):
        raise _damaged(f"the header of {name}")
    digest = hashlib.sha256()
    left = member.size
    file.seek(member.offset)
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise ArchiveError(f"the file ends inside {name}: it was cut off, fetch it again")
        digest.update(chunk)
        left -= len(chunk)
        progress(len(chunk))
    if digest.hexdigest() != member.sha256:
        raise _damaged(name)
    return _central_record(member, crc, start)


def _check_end(file: BinaryIO, archive: Archive, records: bytes, offset: int) -> None:
    size = archive.size - offset
    expected = records + _end_records(len(archive.members), len(records), offset)
    if size > len(expected) or _read(file, offset, size) != expected:
        raise _damaged(f"the ZIP directory, which follows {MANIFEST_NAME},")


def _damaged(what: str) -> ArchiveError:
    return ArchiveError(f"{what} is damaged: fetch the file again")


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise ArchiveError("the file ends too early: it was cut off, fetch it again")
    return data


def _local_header(member: MemberRecord, crc: int) -> bytes:
    name = member.name.encode()
    wide = struct.pack("<HHQQ", 1, 16, member.size, member.size) if member.size >= _U32 else b""
    size = min(member.size, _U32)
    fields = struct.pack(
        "<4s5H3I2H", b"PK\3\4", _ZIP64 if wide else _STORED, _UTF8, 0, 0, _DATE_1980,
        crc, size, size, len(name), len(wide),
    )  # fmt: skip
    return fields + name + wide


def _central_record(member: MemberRecord, crc: int, start: int) -> bytes:
    name = member.name.encode()
    wide = struct.pack("<QQ", member.size, member.size) if member.size >= _U32 else b""
    wide += struct.pack("<Q", start) if start >= _U32 else b""
    extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
    version = _ZIP64 if wide else _STORED
    size = min(member.size, _U32)
    fields = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", _UNIX | version, version, _UTF8, 0, 0, _DATE_1980,
        crc, size, size, len(name), len(extra), 0, 0, 0, _MODE_0644, min(start, _U32),
    )  # fmt: skip
    return fields + name + extra


def _end_records(count: int, size: int, offset: int) -> bytes:
    wide = b""
    if count >= _U16 or size >= _U32 or offset >= _U32:
        wide = struct.pack(
            "<4sQ2H2I4Q", b"PK\6\6", 44, _UNIX | _ZIP64, _ZIP64, 0, 0, count, count, size, offset
        )
        wide += struct.pack("<4sIQI", b"PK\6\7", 0, offset + size, 1)
    count = min(count, _U16)
    return wide + struct.pack(
        "<4s4H2IH", b"PK\5\6", 0, 0, count, count, min(size, _U32), min(offset, _U32), 0
    )
