"""ZIP records as APPNOTE.TXT 6.3.10 defines them, as far as stored members need them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_U16_MAX = 0xFFFF
_U32_MAX = 0xFFFF_FFFF

_LOCAL = struct.Struct("<4sHHHHHIIIHH")  # APPNOTE 4.3.7
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")  # 4.3.12
_END64 = struct.Struct("<4sQHHIIQQQQ")  # 4.3.14
_LOCATOR64 = struct.Struct("<4sIQI")  # 4.3.15
_END = struct.Struct("<4sHHHHIIH")  # 4.3.16

_ZIP64_EXTRA_ID = 0x0001  # 4.5.3
_VERSION_STORED = 10  # 4.4.3.2: the default
_VERSION_ZIP64 = 45
_MADE_BY_UNIX = 3 << 8  # 4.4.2: the external attributes are Unix modes
_UTF8_NAME = 1 << 11  # 4.4.4, bit 11
_DOS_DATE_1980 = 0x0021  # 1 January 1980: a fixed time keeps builds reproducible
_REGULAR_0644 = (0o100644) << 16


@dataclass(frozen=True)
class Entry:
    """One stored member: ``size`` in bytes, offsets from byte 0 of the file."""

    name: str
    size: int
    crc32: int
    header_offset: int


def local_header_size(name: str, size: int) -> int:
    """Bytes between a member's header offset and its data."""
    return _LOCAL.size + len(name.encode()) + len(_local_extra(size))


def local_header(entry: Entry) -> bytes:
    """The local file header, name and extra field (APPNOTE 4.3.7)."""
    name = entry.name.encode()
    extra = _local_extra(entry.size)
    size = min(entry.size, _U32_MAX)
    version = _VERSION_ZIP64 if extra else _VERSION_STORED
    return (
        _LOCAL.pack(
            b"PK\3\4", version, _UTF8_NAME, 0, 0, _DOS_DATE_1980,
            entry.crc32, size, size, len(name), len(extra),
        )
        + name
        + extra
    )  # fmt: skip


def central_directory(entries: list[Entry], offset: int) -> bytes:
    """Every central record, then the end records. ``offset`` is where the directory starts."""
    records = b"".join(_central_record(entry) for entry in entries)
    return records + _end_records(len(entries), len(records), offset)


def _local_extra(size: int) -> bytes:
    # 4.5.3: in a local header both sizes must be there once one of them needs 64 bits.
    if size < _U32_MAX:
        return b""
    return struct.pack("<HHQQ", _ZIP64_EXTRA_ID, 16, size, size)


def _central_record(entry: Entry) -> bytes:
    name = entry.name.encode()
    wide = b""
    if entry.size >= _U32_MAX:
        wide += struct.pack("<QQ", entry.size, entry.size)
    if entry.header_offset >= _U32_MAX:
        wide += struct.pack("<Q", entry.header_offset)
    extra = struct.pack("<HH", _ZIP64_EXTRA_ID, len(wide)) + wide if wide else b""
    version = _VERSION_ZIP64 if wide else _VERSION_STORED
    size = min(entry.size, _U32_MAX)
    return (
        _CENTRAL.pack(
            b"PK\1\2", _MADE_BY_UNIX | version, version, _UTF8_NAME, 0, 0, _DOS_DATE_1980,
            entry.crc32, size, size, len(name), len(extra), 0, 0, 0, _REGULAR_0644,
            min(entry.header_offset, _U32_MAX),
        )
        + name
        + extra
    )  # fmt: skip


def _end_records(count: int, size: int, offset: int) -> bytes:
    wide = b""
    if count >= _U16_MAX or size >= _U32_MAX or offset >= _U32_MAX:
        end64 = _END64.pack(
            b"PK\6\6", _END64.size - 12, _MADE_BY_UNIX | _VERSION_ZIP64, _VERSION_ZIP64,
            0, 0, count, count, size, offset,
        )  # fmt: skip
        wide = end64 + _LOCATOR64.pack(b"PK\6\7", 0, offset + size, 1)
    return wide + _END.pack(
        b"PK\5\6", 0, 0, min(count, _U16_MAX), min(count, _U16_MAX),
        min(size, _U32_MAX), min(offset, _U32_MAX), 0,
    )  # fmt: skip
