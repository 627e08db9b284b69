"""Making packs, or finding them in the cache under a key of everything that goes into them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from llamafile_runtime.format.targets import Target

from ..components import ComponentStore, Lock
from ..components.lock import blobs_of
from . import library
from .host import host_components, host_entries
from .native import native_entries
from .packfile import PackEntry, PackFile, describe_pack, write_pack

_RECIPE = "2"
"""Raised when a change of this code changes the bytes of packs."""

_KEPT = 14 * 24 * 3600  # seconds without use


def running_python() -> str:
    """The minor version of the Python that runs, such as "3.11": the runtime's is the same."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def make_native_pack(target: Target, lock: Lock, store: ComponentStore, cache: Path) -> PackFile:
    """The native pack of a target. Raises PackError or StoreError."""
    component = lock.component(f"llama-cpp-{target.name}")
    key = _key("native", component.sha256)
    return _cached(
        cache,
        key,
        target.native_pack,
        target.native_member,
        lambda: native_entries(component, store),
    )


def make_runtime_pack(
    target: Target, lock: Lock, store: ComponentStore, cache: Path, own: list[library.Source]
) -> PackFile:
    """The runtime pack that serves a target. ``own`` are the runtime's own sources.

    Raises PackError or StoreError.
    """
    pack = target.runtime_pack
    python = running_python()
    modules = library.module_list(python)
    hosts = host_components(pack, python, lock)
    pure = [
        lock.component(component_id)
        for component_id in library.PACKAGES
        if component_id != "colorama" or pack.startswith("windows")
    ]
    key = _key(
        "runtime", sys.version, pack, *modules,
        *(blob.sha256 for component in (*hosts, *pure) for blob in blobs_of(component)),
        *(f"{source.path} {hashlib.sha256(source.data).hexdigest()}" for source in own),
    )  # fmt: skip

    def entries() -> list[PackEntry]:
        sources = [*library.boot_sources(), *library.standard_library(modules), *own]
        for component in pure:
            sources += library.component_sources(component, store)
        zipped = PackEntry("bin/lib/library.zip", library.library_zip(sources))
        return [*host_entries(pack, python, lock, store), zipped]

    return _cached(cache, key, pack, target.runtime_member, entries)


def _key(*parts: str) -> str:
    text = "\n".join((_RECIPE, zlib.ZLIB_RUNTIME_VERSION, *parts))
    return hashlib.sha256(text.encode()).hexdigest()


def _cached(
    cache: Path, key: str, name: str, member: str, entries: Callable[[], Iterable[PackEntry]]
) -> PackFile:
    path = cache / f"{name}-{key[:32]}.tar.gz"
    if path.is_file():
        os.utime(path)
    else:
        write_pack(path, entries())
        _forget_old(cache, name)
    return describe_pack(name, member, path)


def _forget_old(cache: Path, name: str) -> None:
    """Remove packs of that name that no build has used for a while: what replaced them is here."""
    for path in cache.glob(f"{name}-*"):
        with contextlib.suppress(OSError):  # another process may be as tidy
            if time.time() - path.stat().st_mtime > _KEPT:
                path.unlink()
