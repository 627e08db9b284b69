"""The built file, opened for reading: its manifest, its configuration, its members' places."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import ArchiveError
from .format.config import PackedConfig, config_from_json
from .format.jsonrecord import RecordError
from .format.layout import CONFIG_NAME, MANIFEST_NAME, MODEL_ALIGNMENT
from .format.manifest import Manifest, MemberRecord, manifest_from_json

_MAX_TEXT = 64 << 20  # manifest.json and config.json are read whole
# What zipfile raises for damaged directories and headers, seen by changing each of their bytes.
_ZIP_FAULTS = (zipfile.BadZipFile, RuntimeError, ValueError, OverflowError, struct.error, EOFError)
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # APPNOTE 4.3.7: signature, sizes of name and extra


@dataclass(frozen=True)
class Archive:
    """A built file. ``members`` are all of them in the file's order, manifest.json the last."""

    path: Path
    size: int
    manifest: Manifest
    config: PackedConfig
    members: tuple[MemberRecord, ...]

    @property
    def name(self) -> str:
        """The file's own name, which messages begin with."""
        return self.path.name

    def record(self, member: str) -> MemberRecord:
        """A member's record. Raises ArchiveError when there is none of that name."""
        found = next((record for record in self.members if record.name == member), None)
        if found is None:
            raise ArchiveError(f"{self.name} has no member {member}; `info` lists them")
        return found

    def open_member(self, member: str) -> MemberReader:
        """A reader over a member's bytes; close it. Raises ArchiveError for an unknown name."""
        record = self.record(member)
        return MemberReader(self.path, record.offset, record.size)


class MemberReader(io.RawIOBase):
    """Reads ``size`` bytes of a file from ``offset`` on, as if they were a file of their own."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._offset = offset
        self._size = size
        self._position = 0
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer)[: max(0, self._size - self._position)]
        count = self._file.readinto(view)
        if count < len(view):
            raise ArchiveError("the file ends inside a member: it was cut off, fetch it again")
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        self._file.seek(self._offset + self._position)
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._file.close()
        super().close()


def open_archive(path: Path) -> Archive:
    """Read the directory, manifest.json and config.json of a built file.

    Raises ArchiveError when the file is cut off, damaged or none of ours.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            manifest_text = _text(archive, members, MANIFEST_NAME)
            manifest = manifest_from_json(manifest_text)
            own = _manifest_record(file, members[MANIFEST_NAME], manifest_text)
            for record in (*manifest.members, own):
                _check_member(file, members.get(record.name), record)
            _check_extra(members, manifest)
            config = config_from_json(_text(archive, members, CONFIG_NAME))
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror or error}") from error
    except RecordError as error:
        raise ArchiveError(f"{path.name} is damaged: {error}") from error
    except _ZIP_FAULTS as error:
        raise ArchiveError(_explain(path, error)) from error
    return Archive(path, size, manifest, config, (*manifest.members, own))


def _text(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> bytes:
    info = members.get(name)
    if info is None:
        raise ArchiveError(
            f"{archive.filename} has no {name}: it was not written by llamafile-build"
        )
    if info.file_size > _MAX_TEXT:
        raise ArchiveError(f"{archive.filename} is damaged: its {name} is absurdly large")
    try:
        return archive.read(info)
    except _ZIP_FAULTS as error:
        raise ArchiveError(
            f"{archive.filename} is damaged: {name} cannot be read ({error}); fetch the file again"
        ) from error


def _check_member(
    file: io.BufferedReader, info: zipfile.ZipInfo | None, record: MemberRecord
) -> None:
    """The directory and the manifest must tell of the same bytes, and those must be there."""
    name = record.name
    if info is None:
        raise ArchiveError(f"the file is damaged: the ZIP directory lacks {name}")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ArchiveError(f"the file was changed by another program: {name} is compressed")
    offset = _data_offset(file, info)
    if (offset, info.file_size) != (record.offset, record.size):
        raise ArchiveError(
            f"the file was changed by another program: {name} is not where manifest.json says"
        )
    if name.endswith(".gguf") and offset % MODEL_ALIGNMENT:
        raise ArchiveError(f"the file is damaged: {name} is not aligned to {MODEL_ALIGNMENT} bytes")


def _check_extra(members: dict[str, zipfile.ZipInfo], manifest: Manifest) -> None:
    extra = set(members) - {record.name for record in manifest.members} - {MANIFEST_NAME}
    if extra:
        raise ArchiveError(f"the file has a member that manifest.json lacks: {min(extra)}")


def _manifest_record(file: BinaryIO, info: zipfile.ZipInfo, text: bytes) -> MemberRecord:
    digest = hashlib.sha256(text).hexdigest()
    return MemberRecord(MANIFEST_NAME, info.file_size, _data_offset(file, info), digest)


def _data_offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a member's data starts: the local header's own sizes say."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    signature, name_size, extra_size = (
        _LOCAL_HEADER.unpack(header) if len(header) == _LOCAL_HEADER.size else (b"", 0, 0)
    )
    if signature != b"PK\3\4":
        raise ArchiveError(f"the file is damaged: no member begins where {info.filename} should")
    return info.header_offset + _LOCAL_HEADER.size + int(name_size) + int(extra_size)


def _explain(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(10)
    if start.startswith((b"MZqFpD='", b"#!/bin/sh\n")):
        return f"{path.name} is cut off or damaged ({error}): fetch it again"
    return f"{path.name} is no file of llamafile-build ({error})"
