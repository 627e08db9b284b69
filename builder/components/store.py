"""A content-addressed cache of components: ``blobs/<2 digits>/<SHA-256>``.

A blob's name is its digest, so builds of different releases share what they have in common, and
two processes that fetch the same file do the same work at worst.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from ..errors import BuilderError
from .fetch import Fetcher
from .lock import Component, Member

_PARALLEL = 6
_CHUNK = 1 << 20

ProgressBar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a bar with a title and a total in bytes; yields what is told of bytes done."""


class StoreError(BuilderError):
    """A component is missing or damaged."""


class ComponentStore:
    """The cache below ``root``. With ``offline`` the network is never used."""

    def __init__(self, root: Path, progress: ProgressBar, *, offline: bool = False) -> None:
        self._root = root
        self._progress = progress
        self._offline = offline

    def missing(self, components: Iterable[Component]) -> list[Component]:
        """The components that are not whole in the cache, judged by size."""
        return [c for c in components if not all(self._has(blob) for blob in blobs_of(c))]

    def ensure(self, components: Iterable[Component]) -> None:
        """Fetch what is missing, several at once.

        Raises StoreError naming what is missing when ``offline``; RegistryError or FetchError when
        a file cannot be had or has another SHA-256 than lock.toml says.
        """
        missing = self.missing(components)
        if not missing:
            return
        if self._offline:
            names = ", ".join(f"{c.registry}:{c.name} {c.version} ({c.file})" for c in missing)
            raise StoreError(
                f"--offline, but {len(missing)} components are not in the cache: {names}; "
                "run `llamafile-build fetch` while there is a network"
            )
        total = sum(blob.size for c in missing for blob in blobs_of(c))
        self._root.mkdir(parents=True, exist_ok=True)
        with (
            self._progress("Fetching components", total) as advance,
            ThreadPoolExecutor(_PARALLEL) as pool,
        ):
            fetcher = Fetcher(self._root / "partial", self._put, advance)
            for future in [pool.submit(fetcher.fetch, component) for component in missing]:
                future.result()

    def check(self, components: Iterable[Component]) -> list[Component]:
        """Hash every blob again, drop the damaged ones, and return their components."""
        damaged = []
        for component in components:
            for blob in blobs_of(component):
                path = self._blob(blob.sha256)
                if path.exists() and _sha256_of(path) != blob.sha256:
                    path.unlink()
                    damaged.append(component)
        return damaged

    def path(self, component: Component) -> Path:
        """The whole file of a component that was fetched with mode "file"."""
        return self._blob(component.sha256)

    def read(self, component: Component, path: str) -> bytes:
        """A member's bytes, checked against their SHA-256. Raises StoreError."""
        if component.mode == "file":
            for name, data in self.contents(component, [path]):
                if name == path:
                    return data
            raise StoreError(f"{component.file} has no member {path}")
        member = component.member(path)
        data = self._blob(member.sha256).read_bytes()
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise StoreError(
                f"{path} of {component.file} is damaged in the cache; "
                "run `llamafile-build fetch --check`"
            )
        return data

    def contents(
        self, component: Component, only: Iterable[str] | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Names and bytes of the regular files in a wholly fetched archive."""
        wanted = None if only is None else set(only)
        path = self.path(component)
        if component.file.endswith((".tar.gz", ".tgz")):
            with tarfile.open(path, "r:gz") as archive:
                for entry in archive:
                    file = archive.extractfile(entry) if entry.isfile() else None
                    if file and (wanted is None or entry.name in wanted):
                        yield entry.name, file.read()
            return
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                if not name.endswith("/") and (wanted is None or name in wanted):
                    yield name, wheel.read(name)

    def _put(self, sha256: str, source: Path | bytes) -> None:
        """Move a file, or write bytes, to their place; readers never see half of it."""
        path = self._blob(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Path):
            source.replace(path)
            return
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(source)
        Path(file.name).replace(path)

    def _has(self, blob: Member) -> bool:
        path = self._blob(blob.sha256)
        return path.is_file() and path.stat().st_size == blob.size

    def _blob(self, sha256: str) -> Path:
        return self._root / "blobs" / sha256[:2] / sha256


def blobs_of(component: Component) -> tuple[Member, ...]:
    """What the cache keeps of a component: its file, or its members."""
    if component.mode == "file":
        return (Member(component.file, component.size, component.sha256),)
    return component.members


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
