"""A content-addressed cache of components: ``blobs/<2 digits>/<SHA-256>``.

A blob's name is its digest, so builds of different releases share what they have in common, and
two processes that fetch the same file do the same work at worst.
"""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from pathlib import Path

from ..errors import BuilderError
from .lock import TAR_ENDINGS, Component, Member, blobs_of, transfer_size

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
        missing.sort(key=transfer_size, reverse=True)  # so that the last to end is a short one
        total = sum(transfer_size(component) for component in missing)
        with self._progress("Fetching components", total) as advance:
            self._fetch(missing, advance)

    def _fetch(self, components: list[Component], advance: Callable[[int], None]) -> None:
        stopped = threading.Event()

        def advance_or_stop(count: int) -> None:
            if stopped.is_set():
                raise StoreError("stopped, since another download failed")
            advance(count)

        from .fetch import Fetcher  # its HTTP client takes a tenth of a second to import

        fetcher = Fetcher(self._root / "partial", self._has, self._put, advance_or_stop)
        pool = ThreadPoolExecutor(_PARALLEL)
        try:
            for done in as_completed([pool.submit(fetcher.fetch, c) for c in components]):
                done.result()
        except BaseException:  # Ctrl-C, too, must not wait for the other downloads to end
            stopped.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def check(self, components: Iterable[Component]) -> list[Component]:
        """Hash every blob again, drop the damaged ones, and return their components."""
        damaged = []
        for component in components:
            sound = [self._drop_damaged(blob) for blob in blobs_of(component)]
            if not all(sound):
                damaged.append(component)
        return damaged

    def path(self, component: Component) -> Path:
        """The whole file of a component that was fetched with mode "file"."""
        return self._blob(component.sha256)

    def read(self, component: Component, path: str) -> bytes:
        """A member's bytes. Raises StoreError.

        Of a component with mode "members" they are checked, and fetched again if damaged.
        """
        if component.mode == "file":
            for name, data in self.contents(component, [path]):
                if name == path:
                    return data
            raise StoreError(f"{component.file} has no member {path}")
        return self._intact(component, component.member(path)).read_bytes()

    def contents(
        self, component: Component, only: Iterable[str] | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Names and bytes of the regular files in a wholly fetched archive.

        The archive is checked, and fetched again if damaged, unless ``only`` asks for single
        files: licence texts, of which every build reads a few, are not worth hashing it all.
        """
        wanted = None if only is None else set(only)
        path = self.path(component)
        if wanted is None:
            self._intact(component, Member(component.file, component.size, component.sha256))
        if component.file.endswith(TAR_ENDINGS):
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
            try:
                file.write(source)
            except BaseException:
                Path(file.name).unlink()
                raise
        Path(file.name).replace(path)

    def _intact(self, component: Component, blob: Member) -> Path:
        """The path of a blob that has its SHA-256, after fetching it again if need be."""
        if not self._drop_damaged(blob) or not self._has(blob):
            self.ensure([component])
        return self._blob(blob.sha256)

    def _drop_damaged(self, blob: Member) -> bool:
        """Remove a blob that has another SHA-256; say whether it was (there and) sound."""
        path = self._blob(blob.sha256)
        with contextlib.suppress(FileNotFoundError):
            if _sha256_of(path) != blob.sha256:
                path.unlink()
                return False
        return True

    def _has(self, blob: Member) -> bool:
        path = self._blob(blob.sha256)
        return path.is_file() and path.stat().st_size == blob.size

    def _blob(self, sha256: str) -> Path:
        return self._root / "blobs" / sha256[:2] / sha256


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
