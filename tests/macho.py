"""Reading Mach-O files as far as the tests need it: loading, versions, signatures.

Written from Apple's <mach-o/loader.h>, <mach-o/fat.h> and <kern/cs_blobs.h>.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

FAT = 0xCAFEBABE
MAGIC_64 = 0xFEEDFACF
CPUS = {0x01000007: "x86_64", 0x0100000C: "arm64"}

LOAD_DYLIB = {0xC, 0x80000018, 0x8000001F}  # LC_LOAD_DYLIB, _WEAK_DYLIB, _REEXPORT_DYLIB
ID_DYLIB = 0xD
RPATH = 0x8000001C
VERSION_MIN_MACOSX = 0x24
BUILD_VERSION = 0x32
CODE_SIGNATURE = 0x1D

SUPERBLOB = 0xFADE0CC0
CODE_DIRECTORY = 0xFADE0C02
HASHES = {1: "sha1", 2: "sha256"}


@dataclass(frozen=True)
class Slice:
    """One architecture's program or library. ``minimum_os`` is (major, minor)."""

    architecture: str
    dependencies: tuple[str, ...]
    rpaths: tuple[str, ...]
    minimum_os: tuple[int, int] | None
    signature: bytes | None
    data: bytes


def slices(data: bytes) -> list[Slice]:
    """All architectures of a file; raises ValueError when it is no Mach-O file."""
    (magic,) = struct.unpack(">I", data[:4])
    if magic != FAT:
        return [_slice(data)]
    (count,) = struct.unpack(">I", data[4:8])
    found = []
    for i in range(count):
        _cpu, _subtype, offset, size, _align = struct.unpack_from(">5I", data, 8 + 20 * i)
        found.append(_slice(data[offset : offset + size]))
    return found


def _slice(data: bytes) -> Slice:
    magic, cpu, _subtype, _type, count, _size, _flags, _ = struct.unpack_from("<8I", data)
    if magic != MAGIC_64:
        raise ValueError("not a 64-bit Mach-O file")
    dependencies, rpaths = [], []
    minimum = signature = None
    for command, body in _commands(data, count):
        if command in LOAD_DYLIB:
            dependencies.append(_text(body, 8))
        elif command == RPATH:
            rpaths.append(_text(body, 8))
        elif command in (VERSION_MIN_MACOSX, BUILD_VERSION):
            (version,) = struct.unpack_from("<I", body, 8 if command == VERSION_MIN_MACOSX else 12)
            minimum = (version >> 16, version >> 8 & 0xFF)
        elif command == CODE_SIGNATURE:
            offset, size = struct.unpack_from("<2I", body, 8)
            signature = data[offset : offset + size]
    return Slice(CPUS[cpu], tuple(dependencies), tuple(rpaths), minimum, signature, data)


def _commands(data: bytes, count: int) -> Iterator[tuple[int, bytes]]:
    offset = 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, offset)
        yield command, data[offset : offset + size]
        offset += size


def _text(body: bytes, field: int) -> str:
    (offset,) = struct.unpack_from("<I", body, field)
    return body[offset:].split(b"\0")[0].decode()


def broken_pages(item: Slice) -> list[int]:
    """The pages whose bytes differ from the signature's digests. Raises ValueError if unsigned."""
    if item.signature is None:
        raise ValueError("not signed")
    directory = _code_directory(item.signature)
    # struct __CodeDirectory: magic length version flags hashOffset identOffset nSpecialSlots
    # nCodeSlots codeLimit hashSize hashType platform pageSize (a power of two)
    fields = struct.unpack_from(">9I4B", directory)
    hash_offset, count, limit = fields[4], fields[7], fields[8]
    hash_size, kind, page = fields[9], HASHES[fields[10]], 1 << fields[12]
    wrong = []
    for i in range(count):
        end = min((i + 1) * page, limit)
        digest = hashlib.new(kind, item.data[i * page : end]).digest()[:hash_size]
        start = hash_offset + i * hash_size
        if directory[start : start + hash_size] != digest:
            wrong.append(i)
    return wrong


def signature_flags(item: Slice) -> int:
    """The CS_* flags of a signed slice."""
    flags: int = struct.unpack_from(">4I", _code_directory(item.signature or b""))[3]
    return flags


def _code_directory(signature: bytes) -> bytes:
    magic, _size, count = struct.unpack_from(">3I", signature)
    if magic != SUPERBLOB:
        raise ValueError("no signature")
    for i in range(count):
        _kind, offset = struct.unpack_from(">2I", signature, 12 + 8 * i)
        magic, size = struct.unpack_from(">2I", signature, offset)
        if magic == CODE_DIRECTORY:
            return signature[offset : offset + size]
    raise ValueError("a signature without a code directory")
