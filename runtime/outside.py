"""Weights from outside the started file: ``-m other.gguf`` or ``-m other.llamafile``."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .archive import Archive, open_archive
from .errors import ArchiveError, ModelError
from .format.config import PackedConfig
from .native.weights import Weights

_FIRST_PART = re.compile(r"-00001-of-(\d{5})\.gguf$", re.IGNORECASE)
_LATER_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)
_GGUF_ALIGNMENT = 32  # llama.cpp maps tensors where they lie, and its kernels want them aligned


@dataclass(frozen=True)
class Choice:
    """The model to run, and the configuration that belongs to it."""

    weights: Weights
    config: PackedConfig
    name: str | None
    license: str | None = None


def packed_model(archive: Archive) -> Choice:
    """The model inside a built file."""
    model = archive.manifest.model
    record = archive.record(model.member)
    weights = Weights(archive.path, record.offset, record.size)
    return Choice(weights, archive.config, archive.manifest.name, model.license)


def outside_model(path: Path, own: PackedConfig) -> Choice:
    """The model in a GGUF, a built file, or any ZIP that holds a GGUF uncompressed.

    Of the started file's configuration ``own``, only how to serve holds for a foreign GGUF.
    Raises ModelError when there is no model that could be run in place.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    if magic == b"GGUF":
        return Choice(_gguf(path, size), PackedConfig(server=own.server), None)
    try:
        return packed_model(open_archive(path))
    except ArchiveError as error:
        weights = _foreign_zip(path)
        if weights is None:
            raise ModelError(
                f"{path.name} is neither a GGUF nor a file with one: {error}"
            ) from error
        return Choice(weights, PackedConfig(server=own.server), None)


def _gguf(path: Path, size: int) -> Weights:
    later = _LATER_PART.search(path.name)
    if not later:
        return Weights(path, 0, size)
    first = path.with_name(path.name[: later.start()] + f"-00001-of-{later[1]}.gguf")
    if not _FIRST_PART.search(path.name):
        raise ModelError(
            f"{path.name} is a later part of a split model: give the first, {first.name}"
        )
    return Weights(path, 0, size, split=True)


def _foreign_zip(path: Path) -> Weights | None:
    """The first GGUF that lies in a ZIP as it is, and where it can be mapped."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".gguf") and info.compress_type == zipfile.ZIP_STORED:
                    with archive.open(info):  # seeks to the data, and checks the local header
                        offset = file.tell()
                    if offset % _GGUF_ALIGNMENT == 0:
                        return Weights(path, offset, info.file_size)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None
    return None
