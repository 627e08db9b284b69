"""Loading llama.cpp's shared libraries from a folder."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import NativeError

# What the packs' libraries need of the system. Their RUNPATH is "$ORIGIN:", and its empty part is
# the current folder: whatever lies there under one of these names would be loaded and run. Loaded
# by name before them, the system's own are already there when the linker looks.
_LINUX_SYSTEM = ("libm.so.6", "libgcc_s.so.1", "libstdc++.so.6")
_MSVC_RUNTIME = ("vcruntime140.dll", "vcruntime140_1.dll", "msvcp140.dll")


@dataclass(frozen=True)
class Libraries:
    """The loaded libraries, and the folder from which ggml loads its backends."""

    folder: Path
    ggml: ctypes.CDLL
    llama: ctypes.CDLL


def load_libraries(folder: Path) -> Libraries:
    """Load ggml-base, ggml and llama from ``folder``, each before what needs it.

    Raises NativeError when a file is missing or the system refuses it.
    """
    paths = find_libraries([path.name for path in folder.iterdir()] if folder.is_dir() else [])
    if sys.platform == "win32":
        # The libraries' own folder for what they load, and the C++ runtime by full path: a copy
        # elsewhere on PATH may be older than they need.
        os.add_dll_directory(str(folder))
        for name in _MSVC_RUNTIME:
            _load_msvc_runtime(name)
    elif sys.platform == "linux":
        for name in _LINUX_SYSTEM:
            _load_system(name)
    loaded = {stem: _load(folder / name) for stem, name in paths.items()}
    return Libraries(folder, loaded["ggml"], loaded["llama"])


def find_libraries(names: list[str]) -> dict[str, str]:
    """File names of ggml-base, ggml and llama among ``names``, in the order of loading.

    Packs name them by system and version: libllama.v0.4.0.so, libllama.metal.v0.4.0.dylib,
    llama.v0.4.0.dll. Raises NativeError naming the one that is missing.
    """
    found = {}
    for stem in ("ggml-base", "ggml", "llama"):
        pattern = re.compile(rf"(lib)?{stem}(\.[\w.]+)?\.(so|dylib|dll)")
        matches = sorted(name for name in names if pattern.fullmatch(name))
        if not matches:
            raise NativeError(f"the native pack has no {stem} library")
        found[stem] = matches[0]
    return found


def _load(path: Path) -> ctypes.CDLL:
    try:
        # Global, since libggml's backends and libllama find each other's symbols by name. On
        # Windows ctypes ignores the mode, and 0 is the search that full paths allow.
        return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise NativeError(_advice(path, str(error))) from error


def _load_system(name: str) -> None:
    try:
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise NativeError(_advice(Path(name), str(error))) from error


def _advice(path: Path, reason: str) -> str:
    if "GLIBC_" in reason:
        return f"this system's C library is too old for llama.cpp (glibc 2.34 is needed): {reason}"
    if "GLIBCXX_" in reason or "libstdc++" in reason or "libgcc_s" in reason:
        return f"llama.cpp needs the GNU C++ library: install or update libstdc++6 ({reason})"
    return f"{path.name} cannot be loaded: {reason}"


def _load_msvc_runtime(name: str) -> None:
    """Load one file of the Microsoft C++ runtime, from the runtime pack or else the system."""
    path = Path(sys.executable).parent / name
    try:
        ctypes.CDLL(str(path) if path.is_file() else name)
    except OSError as error:
        raise NativeError(
            f"{name} cannot be loaded: install the Microsoft Visual C++ Redistributable ({error})"
        ) from error
