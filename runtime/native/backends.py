"""Letting ggml load its backends, the CPU variant that fits this processor among them."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import NativeError
from .library import Libraries

_AMX_VARIANT = "sapphirerapids"
_XSTATE_AMX = 1 << 17 | 1 << 18  # winnt.h: XSTATE_MASK_AMX_TILE_CONFIG and _TILE_DATA


def load_backends(libraries: Libraries) -> None:
    """Load the best CPU variant and every GPU backend that can be loaded.

    Raises NativeError when no CPU variant runs here.
    """
    if sys.platform != "win32" or _may_use_amx():
        load_all = _function(libraries, "ggml_backend_load_all_from_path")
        load_all.argtypes, load_all.restype = [ctypes.c_char_p], None
        load_all(os.fsencode(libraries.folder))  # UTF-8 on Windows, as ggml wants it
        return
    load = _function(libraries, "ggml_backend_load")
    load.argtypes, load.restype = [ctypes.c_char_p], ctypes.c_void_p
    scores = {path.name: _score(path) for path in libraries.folder.glob("ggml-cpu-*")}
    names = [path.name for path in libraries.folder.glob("ggml-*.dll")]
    for name in backends_without_amx(names, scores):
        load(os.fsencode(libraries.folder / name))


def backends_without_amx(names: list[str], scores: Mapping[str, int]) -> list[str]:
    """Files to load in ggml's order, GPUs first: ``scores`` say how well CPU variants fit.

    Raises NativeError when no CPU variant scores above 0.
    """
    fitting = {
        name: score for name, score in scores.items() if score > 0 and _AMX_VARIANT not in name
    }
    if not fitting:
        raise NativeError("this processor is too old: llama.cpp has no variant that runs on it")
    best = max(sorted(fitting), key=fitting.__getitem__)
    gpus = [name for name in sorted(names) if not name.startswith(("ggml-cpu-", "ggml-base"))]
    return [*gpus, best]


def _may_use_amx() -> bool:
    """Ask Windows for the AMX registers.

    Without its leave the first AMX instruction ends the process, and ggml does not ask: it goes
    by what the processor says. Windows 10 and Wine have no such call.
    """
    try:
        enable = ctypes.CDLL("kernel32").EnableProcessOptionalXStateFeatures
    except (OSError, AttributeError):
        return False
    enable.argtypes, enable.restype = [ctypes.c_uint64], ctypes.c_int
    return bool(enable(_XSTATE_AMX))


def _score(path: Path) -> int:
    try:
        score = ctypes.CDLL(str(path)).ggml_backend_score
    except (OSError, AttributeError):
        return 0
    score.argtypes, score.restype = [], ctypes.c_int
    return int(score())


def _function(libraries: Libraries, name: str) -> ctypes._NamedFuncPointer:
    try:
        return getattr(libraries.ggml, name)  # type: ignore[no-any-return]
    except AttributeError as error:
        raise NativeError(f"the native pack is of another llama.cpp version: {error}") from error
