"""Where a model's bytes lie, and the C file that llama.cpp reads them from."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError


@dataclass(frozen=True)
class Weights:
    """A GGUF of ``size`` bytes at ``offset`` of a file, which may be an archive.

    ``split``: the file is the first part of a split model; the others lie beside it.
    """

    path: Path
    offset: int
    size: int
    split: bool = False


@contextmanager
def c_file(weights: Weights) -> Iterator[int]:
    """A C ``FILE *`` which stands at the model's first byte, as a number.

    llama.cpp reads a GGUF from the FILE's position and maps the file itself, so the model is
    never copied. Raises ModelError when the file cannot be opened.
    """
    library, pointer = _open_windows(weights) if sys.platform == "win32" else _open_unix(weights)
    library.fclose.argtypes = [ctypes.c_void_p]
    try:
        yield pointer
    finally:
        library.fclose(pointer)


def _open_unix(weights: Weights) -> tuple[ctypes.CDLL, int]:
    library = ctypes.CDLL(None, use_errno=True)
    library.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    library.fopen.restype = ctypes.c_void_p
    # off_t has 64 bits on every target.
    library.fseeko.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
    pointer = library.fopen(os.fsencode(weights.path), b"rb")
    if not pointer:
        raise _unreadable(weights, ctypes.get_errno())
    if library.fseeko(pointer, weights.offset, os.SEEK_SET):
        raise _unreadable(weights, ctypes.get_errno())
    return library, pointer


def _open_windows(weights: Weights) -> tuple[ctypes.CDLL, int]:
    # The C runtime must be the one that the llama.cpp libraries use: a FILE belongs to it.
    library = ctypes.CDLL("ucrtbase", use_errno=True)
    library._wfopen.argtypes = [ctypes.c_wchar_p, ctypes.c_wchar_p]
    library._wfopen.restype = ctypes.c_void_p
    library._fseeki64.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
    pointer = library._wfopen(str(weights.path), "rb")
    if not pointer:
        raise _unreadable(weights, 0)
    if library._fseeki64(pointer, weights.offset, os.SEEK_SET):
        raise _unreadable(weights, errno.EINVAL)
    return library, pointer


def _unreadable(weights: Weights, number: int) -> ModelError:
    reason = f": {os.strerror(number)}" if number else ""
    return ModelError(f"{weights.path} cannot be opened{reason}")
