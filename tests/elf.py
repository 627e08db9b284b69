"""Reading 64-bit little-endian ELF files as far as the tests need it: what they load.

Written from elf(5) and the gABI's chapter 5; version needs from the Linux Standard Base.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MACHINES = {62: "x86_64", 183: "aarch64"}
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 14, 15, 29
DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF


@dataclass(frozen=True)
class Elf:
    """``versions`` are the symbol versions that the file wants, such as GLIBC_2.17."""

    machine: str
    needed: tuple[str, ...]
    search: tuple[str, ...]
    versions: frozenset[str]


def read(data: bytes) -> Elf:
    """Raises ValueError when it is no such file."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    (machine,) = struct.unpack_from("<H", data, 18)
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<2H", data, 54)
    headers = [struct.unpack_from("<2I6Q", data, offset + i * size) for i in range(count)]

    def place(address: int) -> int:
        for kind, _flags, start, virtual, _physical, length, _memory, _align in headers:
            if kind == PT_LOAD and virtual <= address < virtual + length:
                return int(address - virtual + start)
        raise ValueError(f"no segment holds {address:#x}")

    dynamic = [
        struct.unpack_from("<2Q", data, at)
        for header in headers
        if header[0] == PT_DYNAMIC
        for at in range(header[2], header[2] + header[5], 16)
    ]
    first = dict(reversed(dynamic))
    strings = place(first[DT_STRTAB])

    def text(index: int) -> str:
        start = strings + index
        return data[start : data.index(b"\0", start)].decode()

    paths = [text(value) for tag, value in dynamic if tag in (DT_RPATH, DT_RUNPATH)]
    versions: list[str] = []
    if DT_VERNEED in first:
        needs = _versions(data, place(first[DT_VERNEED]), first[DT_VERNEEDNUM])
        versions = [text(index) for index in needs]
    return Elf(
        machine=MACHINES[machine],
        needed=tuple(text(value) for tag, value in dynamic if tag == DT_NEEDED),
        search=tuple(part for path in paths for part in path.split(":")),
        versions=frozenset(versions),
    )


def _versions(data: bytes, offset: int, count: int) -> Iterator[int]:
    """String indexes of the version names in Elf64_Verneed records and their Elf64_Vernaux."""
    for _ in range(count):
        _version, names, _file, first, following = struct.unpack_from("<2H3I", data, offset)
        at = offset + first
        for _ in range(names):
            _hash, _flags, _other, name, after = struct.unpack_from("<I2H2I", data, at)
            yield name
            at += after
        offset += following
