"""A GGUF inside a ZIP archive: stored, deflated, or (with an extra) Deflate64."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import cast

from ..errors import InputError

_DEFLATE64 = 9  # APPNOTE 4.4.5
_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


def find_gguf(path: Path) -> zipfile.ZipInfo:
    """The one GGUF member of an archive.

    Raises InputError when there is none or more than one, when it is encrypted, or when its
    compression cannot be read here.
    """
    with _open_archive(path) as archive:
        found = [info for info in archive.infolist() if info.filename.lower().endswith(".gguf")]
    if not found:
        raise InputError(f"{path} holds no .gguf file")
    if len(found) > 1:
        names = ", ".join(info.filename for info in found[:4])
        raise InputError(
            f"{path} holds {len(found)} .gguf files ({names} …); unpack the one to use"
        )
    info = found[0]
    if info.flag_bits & 1:
        raise InputError(f"{info.filename} in {path} is encrypted; unpack it first")
    if info.compress_type == _DEFLATE64:
        _enable_deflate64(path)
    elif info.compress_type not in _READABLE:
        raise InputError(
            f"{info.filename} in {path} is compressed by ZIP method {info.compress_type}, "
            "which cannot be read here; unpack it first"
        )
    return info


class MemberReader:
    """Reads a member's uncompressed bytes; damage is reported as InputError."""

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self._where = f"{info.filename} in {path}"
        with _open_archive(path) as archive:
            # The member's reader keeps the file open until it is closed itself.
            self._member = cast("zipfile.ZipExtFile", archive.open(info.filename))

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer``; 0 at the end, where the CRC-32 was checked."""
        try:
            return self._member.readinto(buffer)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InputError(f"{self._where} is damaged: {error}") from error

    def read(self, size: int = -1, /) -> bytes:
        """As a file's ``read``."""
        try:
            return self._member.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InputError(f"{self._where} is damaged: {error}") from error

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As a file's ``seek``; slow backwards."""
        return self._member.seek(offset, whence)

    def close(self) -> None:
        """Close the member and its archive."""
        self._member.close()


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path} is not a readable ZIP archive: {error}") from error


def _enable_deflate64(path: Path) -> None:
    try:
        import zipfile_deflate64  # noqa: F401  # importing it teaches zipfile the method
    except ImportError as error:
        raise InputError(
            f"{path} is compressed with Deflate64, as Windows Explorer does for large files; "
            "pip install 'llamafile-build[deflate64]' to read it, or unpack it first"
        ) from error
