"""Fetching one component: a whole file with resume, or single members by HTTP range."""

from __future__ import annotations

import hashlib
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests
from filelock import FileLock
from remotezip import RangeNotSupported, RemoteZip

from ..errors import BuilderError
from .lock import Component, Member
from .net import TIMEOUT, open_session
from .registry import file_url

_ATTEMPTS = 5
_CHUNK = 1 << 20

Put = Callable[[str, Path | bytes], None]


class FetchError(BuilderError):
    """A component could not be fetched, or its bytes are not those that are pinned."""


class Fetcher:
    """Fetches components into a store; one session per thread."""

    def __init__(self, partial: Path, put: Put, advance: Callable[[int], None]) -> None:
        self._partial = partial
        self._put = put
        self._advance = advance
        self._local = threading.local()

    def fetch(self, component: Component) -> None:
        """Fetch one component. Raises FetchError or RegistryError."""
        try:
            url = file_url(component, self._session)
            if component.mode == "file":
                self._fetch_file(component, url)
            elif component.file.endswith(".tar.gz"):
                self._fetch_tar_members(component, url)
            else:
                self._fetch_zip_members(component, url)
        except (requests.RequestException, OSError) as error:
            raise FetchError(f"{component.file} cannot be fetched: {error}") from error

    @property
    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = open_session()
        session: requests.Session = self._local.session
        return session

    def _fetch_file(self, component: Component, url: str) -> None:
        self._partial.mkdir(parents=True, exist_ok=True)
        part = self._partial / component.sha256
        with FileLock(part.with_suffix(".lock")):
            self._download(component, url, part)
            if _file_sha256(part) != component.sha256:
                part.unlink()
                raise FetchError(
                    f"{component.file} does not have the SHA-256 that lock.toml pins; "
                    "the registry or something on the way changed it"
                )
            self._put(component.sha256, part)

    def _download(self, component: Component, url: str, part: Path) -> None:
        """Fetch to ``part``, going on where an earlier try was cut off."""
        for attempt in range(_ATTEMPTS):
            have = part.stat().st_size if part.exists() else 0
            if have >= component.size:
                return
            try:
                self._download_rest(url, part, have)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.5 * 2**attempt)
        raise FetchError(f"{component.file} was cut off {_ATTEMPTS} times; try again later")

    def _download_rest(self, url: str, part: Path, have: int) -> None:
        headers = {"Range": f"bytes={have}-"} if have else {}
        headers["Accept-Encoding"] = "identity"
        with self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            resumed = answer.status_code == requests.codes.partial_content
            with part.open("ab" if resumed else "wb") as file:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
                    self._advance(len(chunk))

    def _fetch_zip_members(self, component: Component, url: str) -> None:
        try:
            with RemoteZip(url, session=self._session, timeout=TIMEOUT) as archive:
                for member in component.members:
                    self._put_member(component, member, archive.read(member.path))
        except RangeNotSupported as error:
            raise FetchError(
                f"the package index does not answer range requests for {component.file}"
            ) from error

    def _fetch_tar_members(self, component: Component, url: str) -> None:
        """Read a tar from its start until every wanted member was seen."""
        wanted = {member.path: member for member in component.members}
        headers = {"Accept-Encoding": "identity"}
        with self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            with tarfile.open(fileobj=answer.raw, mode="r|gz") as archive:
                for entry in archive:
                    member = wanted.pop(entry.name, None)
                    file = archive.extractfile(entry) if member else None
                    if member and file:
                        self._put_member(component, member, file.read())
                    if not wanted:
                        return
        raise FetchError(f"{component.file} lacks {min(wanted)}")

    def _put_member(self, component: Component, member: Member, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise FetchError(
                f"{member.path} of {component.file} does not have the SHA-256 that lock.toml pins"
            )
        self._put(member.sha256, data)
        self._advance(len(data))


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
