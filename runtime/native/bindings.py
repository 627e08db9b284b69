"""llama_cpp's ctypes layer, bound to libraries that we load ourselves.

The only importer of ``llama_cpp``. Its package would import numpy and look for a library beside
itself; only its declarations are wanted. So a bare module takes the package's name, and two
functions of its loader are replaced before ``llama_cpp.llama_cpp`` is imported.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import NativeError
from .backends import load_backends
from .library import Libraries
from .log import Log


class _Bound:
    """The one binding of this process: libraries cannot be unloaded, nor backends loaded twice."""

    api: Any = None
    log: Log
    callback: object  # C holds it for the life of the process


def bind(libraries: Libraries, log: Log) -> Any:
    """The module of llama.cpp's functions and structures; backends loaded, log sent to ``log``.

    A second call gives the first one's module. Raises NativeError when llama_cpp or a symbol is
    missing.
    """
    _Bound.log = log
    if _Bound.api is None:
        _Bound.api = _bind(libraries)
    return _Bound.api


def _bind(libraries: Libraries) -> ModuleType:
    api: Any = _declarations(libraries)

    @api.llama_log_callback  # type: ignore[untyped-decorator]
    def take(level: int, text: bytes, _user: object) -> None:
        _Bound.log.take(level, text or b"")

    _Bound.callback = take
    api.llama_log_set(take, None)
    load_backends(libraries)
    api.llama_backend_init()
    return api  # type: ignore[no-any-return]


def _declarations(libraries: Libraries) -> ModuleType:
    bare = ModuleType("llama_cpp")
    bare.__path__ = _package_path()
    sys.modules["llama_cpp"] = bare
    loader: Any = importlib.import_module("llama_cpp._ctypes_extensions")

    def load_shared_library(_name: str, _folder: Path) -> ctypes.CDLL:
        return libraries.llama

    loader.load_shared_library = load_shared_library
    loader.ctypes_function_for_shared_library = _declare_for
    return importlib.import_module("llama_cpp.llama_cpp")


def _package_path() -> list[str]:
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        raise NativeError(
            "the Python package llama_cpp is missing; outside a built file install it without "
            'its library: CMAKE_ARGS="-DLLAMA_BUILD=OFF" pip install --no-deps llama-cpp-python'
        )
    return list(spec.submodule_search_locations)


def _declare_for(library: ctypes.CDLL) -> Callable[..., Any]:
    """As llama_cpp's own decorator factory, but what the library lacks fails when it is called.

    llama_cpp is made for a slightly newer llama.cpp than the packs; nothing here calls what was
    added in between.
    """

    def declare(
        name: str, argtypes: list[Any], restype: Any, enabled: bool = True
    ) -> Callable[[Any], Any]:
        def decorate(stub: Any) -> Any:
            if not enabled:
                return stub
            try:
                function = getattr(library, name)
            except AttributeError:
                return _missing(name)
            function.argtypes, function.restype = argtypes, restype
            return function

        return decorate

    return declare


def _missing(name: str) -> Callable[..., Any]:
    def fail(*_arguments: object) -> Any:
        raise NativeError(f"this llama.cpp has no {name}")

    return fail
