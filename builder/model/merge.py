"""Joining a split GGUF while it is copied, so that the runtime can map one whole model.

llama.cpp's gguf-split puts the metadata into the first part and gives every part its own header,
its own tensor list and its own data section. The joined header is written anew; the tensors' bytes
are taken from the parts as they are.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from llamafile_runtime.format.gguf import GGUF, MAGIC, GGUFError, TensorInfo, read_gguf

from ..errors import InputError

_PART_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


@dataclass(frozen=True)
class _Span:
    """Bytes of one part, or padding when ``path`` is None."""

    path: Path | None
    offset: int
    size: int


@dataclass(frozen=True)
class MergedModel:
    """The joined model: ``size`` in bytes, ``paths`` are the parts."""

    name: str
    size: int
    header: GGUF
    paths: tuple[Path, ...]
    start: bytes
    spans: tuple[_Span, ...]

    def open(self) -> SpanReader:
        """A fresh reader of the joined GGUF."""
        return SpanReader(self.start, self.spans)


def merge_parts(first: Path, header: GGUF) -> MergedModel:
    """Plan the joined model from the path and header of the first part.

    Raises InputError when ``first`` is another part, when a part is missing or damaged, or when
    the parts do not belong together.
    """
    paths = _part_paths(first, header)
    headers = [header, *(_read_part(path, number) for number, path in enumerate(paths[1:], 1))]
    alignment = header.alignment
    tensors: list[TensorInfo] = []
    spans: list[_Span] = []
    cursor = 0
    for path, part in zip(paths, headers, strict=True):
        for tensor in part.tensors:
            padding = -cursor % alignment
            if padding:
                spans.append(_Span(None, 0, padding))
            cursor += padding
            tensors.append(replace(tensor, offset=cursor))
            spans.append(_Span(path, part.data_offset + tensor.offset, tensor.size))
            cursor += tensor.size
    start = _joined_header(first, header, tensors)
    _check_count(header, tensors)
    size = len(start) + cursor
    joined = read_gguf(io.BytesIO(start), size=size)
    match = _PART_NAME.fullmatch(first.name)
    name = f"{match['stem']}.gguf" if match else first.name
    return MergedModel(name, size, joined, tuple(paths), start, tuple(spans))


def _part_paths(first: Path, header: GGUF) -> list[Path]:
    match = _PART_NAME.fullmatch(first.name)
    if not match or int(match["count"]) != header.split_count:
        raise InputError(
            f"{first} is a part of a split model, but its name does not say so "
            f"(…-00001-of-{header.split_count:05}.gguf)"
        )
    if header.number("split.no") != 0:
        raise InputError(
            f"{first} is not the first part of a split model: name "
            f"{match['stem']}-00001-of-{match['count']}.gguf"
        )
    count = header.split_count
    paths = [
        first.with_name(f"{match['stem']}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)
    ]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"the split model lacks {len(missing)} of {count} parts: {missing[0]} …")
    return paths


def _read_part(path: Path, number: int) -> GGUF:
    try:
        with path.open("rb") as file:
            part = read_gguf(file)
    except GGUFError as error:
        raise InputError(f"{path}: {error}") from error
    if part.number("split.no") != number:
        raise InputError(f"{path} does not say that it is part {number + 1} of the split model")
    return part


def _check_count(header: GGUF, tensors: list[TensorInfo]) -> None:
    expected = header.number("split.tensors.count")
    if expected is not None and expected != len(tensors):
        raise InputError(
            f"the parts hold {len(tensors)} tensors, the model has {expected}: "
            "they do not belong together"
        )
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise InputError("two parts hold the same tensor: they do not belong together")


def _joined_header(first: Path, header: GGUF, tensors: list[TensorInfo]) -> bytes:
    keys = [key for key in header.spans if key not in _SPLIT_KEYS]
    with first.open("rb") as file:
        pairs = [_bytes_at(file, *header.spans[key]) for key in keys]
    out = bytearray(MAGIC + struct.pack("<IQQ", header.version, len(tensors), len(keys)))
    for pair in pairs:
        out += pair
    for tensor in tensors:
        name = tensor.name.encode()
        out += struct.pack("<Q", len(name)) + name
        out += struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        out += struct.pack("<IQ", tensor.type_number, tensor.offset)
    return bytes(out + bytes(-len(out) % header.alignment))


def _bytes_at(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


class SpanReader:
    """Reads spans of files one after the other, as one stream."""

    def __init__(self, start: bytes, spans: tuple[_Span, ...]) -> None:
        self._start = io.BytesIO(start)
        self._spans = list(reversed(spans))
        self._current: _Span | None = None
        self._files: dict[Path, BinaryIO] = {}

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer``; 0 at the end."""
        count = self._start.readinto(buffer)
        if count:
            return count
        if self._current is None or not self._current.size:
            if not self._spans:
                return 0
            self._current = self._spans.pop()
        span = self._current
        chunk = buffer[: min(len(buffer), span.size)]
        count = self._read(span, chunk)
        self._current = _Span(span.path, span.offset + count, span.size - count)
        return count

    def close(self) -> None:
        """Close the parts."""
        for file in self._files.values():
            file.close()

    def _read(self, span: _Span, chunk: memoryview) -> int:
        if span.path is None:
            chunk[:] = bytes(len(chunk))
            return len(chunk)
        file = self._files.get(span.path)
        if file is None:
            file = self._files[span.path] = span.path.open("rb", buffering=0)
        file.seek(span.offset)
        return file.readinto(chunk) or 0  # type: ignore[attr-defined]
