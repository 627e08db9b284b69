"""Checking a written archive from the outside.

No code is shared with the writer: Python's own ``zipfile`` reads the directory, and the rest
follows docs/format.md. So a mistake of the writer cannot hide in a helper that both use.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from isal import isal_zlib

from .errors import BuilderError

_HEAD_SIZE = 0x10000
_CHUNK = 4 << 20
_BOOT_LINE = re.compile(rb"^pack_(\w+)='(\d+) (\d+) ([0-9a-f]{64})'$", re.MULTILINE)


class VerifyError(BuilderError):
    """The archive does not keep the format's rules."""


def verify_archive(
    path: Path,
    progress: Callable[[int], None] = lambda count: None,
    *,
    models_by_crc: bool = False,
) -> None:
    """Read the whole archive and compare it with its manifest and its own directory.

    ``progress`` is told how many bytes were read since its last call. ``models_by_crc`` compares
    models with the directory's CRC-32 only, three times as fast as SHA-256: right after writing,
    when both were made from the same bytes in memory, it finds what SHA-256 would find. Raises
    VerifyError naming the member (or the head) and the rule that it breaks.
    """
    try:
        with path.open("rb", buffering=0) as file, zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            manifest = _manifest(archive, members)
            _check_order(path, archive.infolist(), manifest)
            head = _read(file, 0, _HEAD_SIZE)
            _check_head(head, manifest)
            _check_gaps(file, archive)
            for record in manifest["members"]:
                info = members[record["name"]]
                _check_place(file, info, record)
                if models_by_crc and info.filename.startswith("model/"):
                    _check_crc(file, info, record, progress)
                else:
                    _check_sha256(file, record, progress)
    except (OSError, zipfile.BadZipFile, struct.error) as error:
        raise VerifyError(f"{path} is damaged: {error}") from error


def _manifest(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    if "manifest.json" not in members:
        raise VerifyError("the archive has no manifest.json")
    manifest: dict[str, Any] = json.loads(archive.read("manifest.json"))
    listed = {record["name"] for record in manifest["members"]} | {"manifest.json"}
    if listed != set(members):
        odd = sorted(listed ^ set(members))
        raise VerifyError(f"manifest.json and the ZIP directory disagree about {odd[0]}")
    return manifest


def _check_order(path: Path, infos: list[zipfile.ZipInfo], manifest: dict[str, Any]) -> None:
    if len({info.filename for info in infos}) != len(infos):
        raise VerifyError(f"{path} has two members of one name")
    if infos[-1].filename != "manifest.json":
        raise VerifyError("manifest.json must be the last member")
    for target in manifest["targets"]:
        if not any(info.filename.startswith("native/" + target) for info in infos):
            raise VerifyError(f"no native pack for the target {target}")


def _check_head(head: bytes, manifest: dict[str, Any]) -> None:
    if hashlib.sha256(head).hexdigest() != manifest["head"]["sha256"]:
        raise VerifyError("the head does not have the SHA-256 that manifest.json gives")
    windows = "windows-x64" in manifest["targets"]
    if not head.startswith(b"MZllamafile='\n" if windows else b"#!/bin/sh\n"):
        raise VerifyError("the head does not start as its targets ask for")
    packs = {
        record["name"]: (record["offset"], record["size"], record["sha256"])
        for record in manifest["members"]
        if record["name"].startswith("runtime/")
    }
    boot = {
        f"runtime/{key.decode().replace('_', '-')}.tar.gz": (int(offset), int(size), sha.decode())
        for key, offset, size, sha in _BOOT_LINE.findall(head)
    }
    if boot != packs:
        raise VerifyError("the head's boot table and manifest.json disagree")


def _check_place(file: FileIO, info: zipfile.ZipInfo, record: dict[str, Any]) -> None:
    name = info.filename
    offset = _data_offset(file, info)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise VerifyError(f"{name} must be stored without compression")
    if (offset, info.file_size) != (record["offset"], record["size"]):
        raise VerifyError(f"{name}: manifest.json gives another place or size than the directory")
    alignment = 0x10000 if name.startswith("model/") else 0x1000 if "/" in name else 1
    if name.endswith((".gguf", ".tar.gz")) and offset % alignment:
        raise VerifyError(f"{name} must start at a multiple of {alignment} bytes")


def _check_sha256(file: FileIO, record: dict[str, Any], progress: Callable[[int], None]) -> None:
    sha256 = hashlib.sha256()
    for chunk in _chunks(file, record["offset"], record["size"]):
        sha256.update(chunk)
        progress(len(chunk))
    if sha256.hexdigest() != record["sha256"]:
        raise VerifyError(f"{record['name']} does not have the SHA-256 that manifest.json gives")


def _check_crc(
    file: FileIO,
    info: zipfile.ZipInfo,
    record: dict[str, Any],
    progress: Callable[[int], None],
) -> None:
    crc32 = 0
    for chunk in _chunks(file, record["offset"], record["size"]):
        crc32 = isal_zlib.crc32(chunk, crc32)
        progress(len(chunk))
    if crc32 != info.CRC:
        raise VerifyError(f"{info.filename} does not have the CRC-32 that the directory gives")


def _check_gaps(file: FileIO, archive: zipfile.ZipFile) -> None:
    """Bytes that belong to no member must be zero, so that nothing can hide between members."""
    end = _HEAD_SIZE
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise VerifyError(f"{info.filename} overlaps what stands before it")
        if any(_read(file, end, info.header_offset - end)):
            raise VerifyError(f"the bytes before {info.filename} must be zero")
        end = _data_offset(file, info) + info.compress_size
    if end != archive.start_dir:
        raise VerifyError("the central directory must follow the last member at once")


def _data_offset(file: FileIO, info: zipfile.ZipInfo) -> int:
    header = _read(file, info.header_offset, 30)
    signature, name_size, extra_size = struct.unpack("<4s22xHH", header)
    if signature != b"PK\3\4":
        raise VerifyError(f"{info.filename} has no local header where the directory says")
    if _read(file, info.header_offset + 30, name_size) != info.filename.encode():
        raise VerifyError(f"{info.filename} has another name in its local header")
    return info.header_offset + 30 + int(name_size) + int(extra_size)


def _chunks(file: FileIO, offset: int, size: int) -> Iterator[memoryview]:
    """The bytes in pieces; each is overwritten by the next."""
    buffer = memoryview(bytearray(min(_CHUNK, size)))
    file.seek(offset)
    while size:
        count = file.readinto(buffer[: min(len(buffer), size)])
        if not count:
            raise VerifyError("the file ends inside a member; it was cut off")
        size -= count
        yield buffer[:count]


def _read(file: FileIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise VerifyError("the file ends too early; it was cut off")
    return data
