"""Everything that goes into a file beside the model: packs, licences, records of components."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from llamafile_runtime.format.layout import LICENSE_PREFIX
from llamafile_runtime.format.manifest import ComponentRecord
from llamafile_runtime.format.targets import Target

from .components import Component, ComponentStore, Lock, load_lock
from .components.lock import blobs_of
from .console import Console
from .errors import BuilderError
from .pack.library import runtime_sources
from .pack.make import make_native_pack, make_runtime_pack, running_python
from .pack.packfile import PackFile


@dataclass(frozen=True)
class Parts:
    """The parts of a file. ``licenses`` are member names with their texts."""

    runtime_packs: tuple[PackFile, ...]
    native_packs: tuple[PackFile, ...]
    licenses: tuple[tuple[str, bytes], ...]
    components: tuple[ComponentRecord, ...]
    python_version: str
    llama_cpp_version: str


@dataclass(frozen=True)
class FetchReport:
    """What ``fetch`` made sure of: a number of components and their size in bytes."""

    components: int
    bytes: int


def cache_root() -> Path:
    """The user's cache folder for llamafile-build."""
    return Path(platformdirs.user_cache_dir("llamafile-build", appauthor=False))


def open_store(console: Console, *, offline: bool) -> tuple[Lock, ComponentStore]:
    """The lock file and the component cache of this user."""
    return load_lock(), ComponentStore(
        cache_root() / "components", console.progress, offline=offline
    )


def gather_parts(targets: Sequence[Target], console: Console, *, offline: bool) -> Parts:
    """Fetch components and make packs, unless the cache has them. Raises BuilderError."""
    lock, store = open_store(console, offline=offline)
    components = lock.select((target.name for target in targets), _supported_python(lock))
    store.ensure(components)
    own = runtime_sources()
    packs = cache_root() / "packs"
    by_runtime = {target.runtime_pack: target for target in targets}
    with ThreadPoolExecutor(2) as pool:
        runtime_packs = pool.map(
            lambda target: make_runtime_pack(target, lock, store, packs, own), by_runtime.values()
        )
        native_packs = pool.map(
            lambda target: make_native_pack(target, lock, store, packs), targets
        )
        return Parts(
            runtime_packs=tuple(runtime_packs),
            native_packs=tuple(native_packs),
            licenses=tuple(_licenses(components, store)),
            components=tuple(_record(component) for component in components),
            python_version=platform.python_version(),
            llama_cpp_version=_llama_cpp_version(components),
        )


def fetch_parts(
    targets: Sequence[Target], console: Console, *, offline: bool, check: bool, with_model: bool
) -> FetchReport:
    """Make sure that every component for these targets is in the cache. Raises BuilderError."""
    lock, store = open_store(console, offline=offline)
    components = list(lock.select((target.name for target in targets), _supported_python(lock)))
    if with_model:
        components += [component for component in lock.components if component.purpose == "model"]
    if check:
        for damaged in store.check(components):
            console.warn(f"{damaged.file} was damaged in the cache")
    store.ensure(components)
    return FetchReport(len(components), sum(b.size for c in components for b in blobs_of(c)))


def _supported_python(lock: Lock) -> str:
    python = running_python()
    if python not in lock.pythons():
        raise BuilderError(
            f"Python {python} is not supported yet; run llamafile-build with one of "
            f"{', '.join(lock.pythons())}"
        )
    return python


def _licenses(
    components: Sequence[Component], store: ComponentStore
) -> Iterator[tuple[str, bytes]]:
    """One text for each component and release, whatever number of its files is used."""
    seen: set[str] = set()
    for component in components:
        name = f"{component.name.lstrip('@').replace('/', '-')}-{component.version}"
        if name in seen:
            continue
        seen.add(name)
        texts = [store.read(component, path) for path in component.license_members]
        yield f"{LICENSE_PREFIX}{name}.txt", b"\n\n".join(texts)


def _record(component: Component) -> ComponentRecord:
    return ComponentRecord(
        name=component.name,
        version=component.version,
        registry=component.registry,
        sha256=component.sha256,
        license=component.license,
        purpose=component.purpose,
    )


def _llama_cpp_version(components: Sequence[Component]) -> str:
    versions = {component.upstream for component in components if component.upstream}
    if len(versions) != 1:
        raise BuilderError(f"lock.toml pins llama.cpp in the versions {sorted(versions)}, not one")
    return versions.pop()
