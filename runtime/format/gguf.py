"""Reading the header of a GGUF file, which may come from anyone.

The format is ggml's ``docs/gguf.md``, versions 2 and 3, little-endian. Nothing here trusts a
count or a length: each is checked against the bytes that are there before memory is taken.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from .ggmltypes import FILE_TYPES, TENSOR_TYPES

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
_MAX_STRING = 16 << 20
_MAX_KEY = 65535  # gguf.md: keys have at most 2^16 - 1 bytes
_MAX_NAME = 64  # GGML_MAX_NAME, the terminating zero included
_MAX_NESTING = 4
_MAX_ENTRIES = 100_000  # of each kind; the largest models have some thousands of tensors
_MAX_KEPT = 256 << 20  # bytes of text that are kept in memory

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    0: struct.Struct("<B"), 1: struct.Struct("<b"), 2: struct.Struct("<H"),
    3: struct.Struct("<h"), 4: struct.Struct("<I"), 5: struct.Struct("<i"),
    6: struct.Struct("<f"), 7: struct.Struct("<B"), 10: struct.Struct("<Q"),
    11: struct.Struct("<q"), 12: struct.Struct("<d"),
}  # fmt: skip
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

Scalar = int | float | bool | str


class SeekableFile(Protocol):
    """What a header is read from: an open binary file, or anything with these methods."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


class GGUFError(ValueError):
    """The bytes are not a GGUF header that can be used. The message is one clause for the user."""


@dataclass(frozen=True)
class ArrayInfo:
    """An array in the metadata: its element type's number and its length; contents are not kept."""

    element_type: int
    length: int


@dataclass(frozen=True)
class TensorInfo:
    """A tensor: ``shape`` in ggml's order, ``offset`` from the data section's start, bytes."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int
    size: int

    @property
    def elements(self) -> int:
        count = 1
        for dimension in self.shape:
            count *= dimension
        return count


@dataclass(frozen=True)
class GGUF:
    """A parsed header. Offsets count from the GGUF's first byte.

    ``spans`` gives the bytes of each key-value pair, (start, end), so that a header can be
    rewritten without understanding every value.
    """

    version: int
    metadata: dict[str, Scalar | ArrayInfo]
    spans: dict[str, tuple[int, int]]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    data_size: int

    def text(self, key: str) -> str | None:
        """A metadata string, or None when it is missing or of another type."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """A metadata integer, or None when it is missing or of another type."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def architecture(self) -> str:
        """The architecture's name; empty when it is missing, as in later parts of a split model."""
        return self.text("general.architecture") or ""

    @property
    def name(self) -> str | None:
        return self.text("general.name")

    @property
    def license(self) -> str | None:
        return self.text("general.license")

    @property
    def chat_template(self) -> str | None:
        return self.text("tokenizer.chat_template")

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained on; 0 when the header does not say."""
        return self.number(f"{self.architecture}.context_length") or 0

    @property
    def split_count(self) -> int:
        """Parts that the model is split into; 0 or 1 when it is whole."""
        return self.number("split.count") or 0

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        return sum(tensor.size for tensor in self.tensors)

    @property
    def quantization(self) -> str:
        """The file type's name, or the type that most weights have."""
        file_type = self.number("general.file_type")
        if file_type in FILE_TYPES:
            return FILE_TYPES[file_type]
        weights: Counter[int] = Counter()
        for tensor in self.tensors:
            weights[tensor.type_number] += tensor.elements
        return TENSOR_TYPES[weights.most_common(1)[0][0]].name if weights else "unknown"


def read_gguf(file: SeekableFile, *, offset: int = 0, size: int | None = None) -> GGUF:
    """Parse the header of the GGUF that starts at ``offset`` and has ``size`` bytes.

    Without ``size`` it reaches to the end of ``file``, which must then be seekable to its end.
    Raises GGUFError when the header is damaged, of an unknown version, or promises more than the
    file holds.
    """
    if size is None:
        size = file.seek(0, 2) - offset
    if size == 0:
        raise GGUFError("it is empty")
    file.seek(offset)
    reader = _Reader(file, size)
    version = _read_version(reader)
    tensor_count = _entries(reader.count(reader.u64(), 24, "tensors"), "tensors")
    pair_count = _entries(reader.count(reader.u64(), 13, "metadata entries"), "metadata entries")
    metadata: dict[str, Scalar | ArrayInfo] = {}
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(pair_count):
        start = reader.position
        key = reader.string(_MAX_KEY)
        if key in metadata:
            raise GGUFError(f"its metadata has {key!r} twice")
        metadata[key] = _read_value(reader, reader.u32(), 0)
        spans[key] = (start, reader.position)
    alignment = _alignment(metadata)
    tensors = tuple(_read_tensor(reader) for _ in range(tensor_count))
    data_offset = -(-reader.position // alignment) * alignment
    gguf = GGUF(version, metadata, spans, tensors, alignment, data_offset, size - data_offset)
    _check_tensors(gguf)
    return gguf


class _Reader:
    """Reads little-endian values and never past the GGUF's end."""

    def __init__(self, file: SeekableFile, size: int) -> None:
        self._file = file
        self._size = size
        self.position = 0
        self._kept = 0

    def bytes(self, count: int) -> bytes:
        if count > self._size - self.position:
            raise GGUFError("its header is cut off")
        data = self._file.read(count)
        if len(data) != count:
            raise GGUFError("its header is cut off")
        self.position += count
        return data

    def skip(self, count: int) -> None:
        if count > self._size - self.position:
            raise GGUFError("its header is cut off")
        self._file.seek(count, 1)
        self.position += count

    def u32(self) -> int:
        return int(_U32.unpack(self.bytes(4))[0])

    def u64(self) -> int:
        return int(_U64.unpack(self.bytes(8))[0])

    def count(self, value: int, least: int, what: str) -> int:
        """A number of things which take at least ``least`` bytes each."""
        if value > (self._size - self.position) // least:
            raise GGUFError(f"it promises {value:,} {what}, which it has no room for")
        return value

    def string(self, limit: int = _MAX_STRING) -> str:
        length = self.u64()
        if length > limit:
            raise GGUFError(f"it has a string of {length:,} bytes where {limit:,} are allowed")
        self._kept += length
        if self._kept > _MAX_KEPT:
            raise GGUFError(f"its header holds more than {_MAX_KEPT:,} bytes of text")
        try:
            return self.bytes(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise GGUFError("it has a string that is not UTF-8") from error


def _entries(count: int, what: str) -> int:
    if count > _MAX_ENTRIES:
        raise GGUFError(f"it has {count:,} {what}, more than any model")
    return count


def _read_version(reader: _Reader) -> int:
    if reader.bytes(4) != MAGIC:
        raise GGUFError("it does not begin with the GGUF magic")
    raw = reader.bytes(4)
    version = int(_U32.unpack(raw)[0])
    if version in (2, 3):
        return version
    if int.from_bytes(raw, "big") in (1, 2, 3):
        raise GGUFError("it is a big-endian GGUF; get or convert a little-endian one")
    if version == 1:
        raise GGUFError("it has GGUF version 1, which is no longer read; get the model again")
    raise GGUFError(f"it has GGUF version {version}; versions 2 and 3 are known")


def _read_value(reader: _Reader, kind: int, nesting: int) -> Scalar | ArrayInfo:
    if kind in _SCALARS:
        scalar = _SCALARS[kind]
        value: int | float = scalar.unpack(reader.bytes(scalar.size))[0]
        return bool(value) if kind == _BOOL else value
    if kind == _STRING:
        return reader.string()
    if kind == _ARRAY:
        return _skip_array(reader, nesting)
    raise GGUFError(f"it has a metadata value of the unknown type {kind}")


def _skip_array(reader: _Reader, nesting: int) -> ArrayInfo:
    if nesting >= _MAX_NESTING:
        raise GGUFError("it has arrays within arrays, too deep")
    kind = reader.u32()
    if kind in _SCALARS:
        length = reader.count(reader.u64(), _SCALARS[kind].size, "array elements")
        reader.skip(length * _SCALARS[kind].size)
    elif kind == _STRING:
        length = reader.count(reader.u64(), 8, "array elements")
        for _ in range(length):
            reader.skip(reader.u64())
    elif kind == _ARRAY:
        length = reader.count(reader.u64(), 12, "array elements")
        for _ in range(length):
            _skip_array(reader, nesting + 1)
    else:
        raise GGUFError(f"it has an array of the unknown type {kind}")
    return ArrayInfo(kind, length)


def _alignment(metadata: dict[str, Scalar | ArrayInfo]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or value < 8 or value & (value - 1) or value > 1 << 20:
        raise GGUFError(f"its alignment {value!r} is not a power of two that can be used")
    return value


def _read_tensor(reader: _Reader) -> TensorInfo:
    name = reader.string(_MAX_NAME - 1)
    dimensions = reader.u32()
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise GGUFError(f"its tensor {name!r} has {dimensions} dimensions")
    shape = tuple(reader.u64() for _ in range(dimensions))
    number = reader.u32()
    offset = reader.u64()
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        raise GGUFError(f"its tensor {name!r} has the unknown type {number}")
    elements = 1
    for dimension in shape:
        elements *= dimension
    if not 0 < elements < 1 << 63 or shape[0] % kind.block:
        raise GGUFError(f"its tensor {name!r} has a shape that {kind.name} cannot store")
    return TensorInfo(name, shape, number, offset, elements // kind.block * kind.block_bytes)


def _check_tensors(gguf: GGUF) -> None:
    if len({tensor.name for tensor in gguf.tensors}) != len(gguf.tensors):
        raise GGUFError("it has two tensors of one name")
    end = max((tensor.offset + tensor.size for tensor in gguf.tensors), default=0)
    if end > gguf.data_size:
        missing = end - gguf.data_size
        raise GGUFError(f"it is cut off: {missing:,} bytes are missing at its end")
    if any(tensor.offset % gguf.alignment for tensor in gguf.tensors):
        raise GGUFError("it has a tensor that is not aligned")
