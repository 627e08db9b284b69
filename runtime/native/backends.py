"""Loading ggml's backends: one of the CPU variants, and whatever else the pack holds."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from ..errors import NativeError
from .library import Libraries

_NEEDS_AMX = "sapphirerapids"


def load_backends(libraries: Libraries) -> None:
    """Load the backends that suit this machine. Raises NativeError when none can be found."""
    try:
        load_all = libraries.ggml.ggml_backend_load_all_from_path
        load_one = libraries.ggml.ggml_backend_load
    except AttributeError as error:
        raise NativeError(f"the native pack is of another llama.cpp version: {error}") from error
    load_all.argtypes, load_all.restype = [ctypes.c_char_p], None
    load_one.argtypes, load_one.restype = [ctypes.c_char_p], ctypes.c_void_p
    if not under_wine():
        load_all(os.fsencode(libraries.folder))  # which is UTF-8 on Windows, as ggml wants it
        return
    # Linux lets a process use AMX after it has asked for it. Windows needs no asking, so the
    # Windows library does not, and under Wine its first tile instruction is an illegal one.
    variants = [p for p in libraries.folder.glob("ggml-cpu-*.dll") if _NEEDS_AMX not in p.name]
    best = max(variants, key=score, default=None)
    if best is None or not load_one(os.fsencode(best)):
        raise NativeError("the native pack has no CPU library for this machine")


def under_wine() -> bool:
    """Whether this Windows is Wine."""
    if sys.platform != "win32":
        return False
    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


def score(variant: Path) -> int:
    """How well a CPU variant suits this processor: 0 when it cannot run (ggml-backend-impl.h)."""
    function = ctypes.CDLL(str(variant)).ggml_backend_score
    function.argtypes, function.restype = [], ctypes.c_int
    return int(function())
