"""Reading what a 64-bit PE file imports, from Microsoft's "PE Format"."""

from __future__ import annotations

import struct

MACHINES = {0x8664: "x86_64"}
PE32_PLUS = 0x20B
IMPORT_TABLE = 1  # its number among the data directories


def machine(data: bytes) -> str:
    """The processor that a PE file is for."""
    (number,) = struct.unpack_from("<H", data, _header(data) + 4)
    return MACHINES[number]


def imports(data: bytes) -> list[str]:
    """Names of the DLLs that are loaded with a PE file, in lower case."""
    header = _header(data)
    sections, optional_size = struct.unpack_from("<H12xH", data, header + 6)
    optional = header + 24
    if struct.unpack_from("<H", data, optional)[0] != PE32_PLUS:
        raise ValueError("not a 64-bit PE file")
    table = [
        struct.unpack_from("<4I", data, optional + optional_size + 40 * i + 8)
        for i in range(sections)
    ]

    def place(address: int) -> int:
        for _size, virtual, length, start in table:
            if virtual <= address < virtual + length:
                return int(address - virtual + start)
        raise ValueError(f"no section holds {address:#x}")

    (address,) = struct.unpack_from("<I", data, optional + 112 + 8 * IMPORT_TABLE)
    names = []
    at = place(address)
    # An import directory entry is 20 bytes, the name's address at 12; one of zeros ends them.
    while name := struct.unpack_from("<I", data, at + 12)[0]:
        start = place(name)
        names.append(data[start : data.index(b"\0", start)].decode().lower())
        at += 20
    return names


def _header(data: bytes) -> int:
    (offset,) = struct.unpack_from("<I", data, 0x3C)
    if data[:2] != b"MZ" or data[offset : offset + 4] != b"PE\0\0":
        raise ValueError("not a PE file")
    return int(offset)
