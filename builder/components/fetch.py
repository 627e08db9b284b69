"""Fetching one component: a whole file with resume, or single members of an archive."""

from __future__ import annotations

import hashlib
import re
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import requests
import urllib3
from filelock import FileLock
from remotezip import RemoteZip, RemoteZipError

from ..errors import BuilderError
from .lock import TAR_ENDINGS, Component, Member, blobs_of, transfer_size
from .net import TIMEOUT, open_session
from .registry import Location, locate
from .stream import CountingReader

_ATTEMPTS = 5

_CHUNK = 1 << 16
_AS_IT_IS = {"Accept-Encoding": "identity"}  # in a compressed transfer, ranges count other bytes

# What a connection that breaks off looks like to each of the readers used here. A second try may
# do better, unlike after an HTTP status or a wrong digest.
_BROKEN_OFF = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
    tarfile.ReadError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
)

Put = Callable[[str, Path | bytes], None]
Has = Callable[[Member], bool]


class FetchError(BuilderError):
    """A component could not be fetched, or its bytes are not those that are pinned."""


class Fetcher:
    """Fetches components into a store; one session a thread.

    ``partial`` is the folder for what has not arrived whole, ``has`` and ``put`` are the store's,
    ``advance`` is told of bytes.
    """

    def __init__(self, partial: Path, has: Has, put: Put, advance: Callable[[int], None]) -> None:
        self._partial = partial
        self._has = has
        self._put = put
        self._advance = advance
        self._local = threading.local()

    def fetch(self, component: Component) -> None:
        """Fetch one component, unless another process is faster. Raises BuilderError."""
        self._partial.mkdir(parents=True, exist_ok=True)
        with FileLock(self._partial / f"{component.sha256}.lock"):
            if all(self._has(blob) for blob in blobs_of(component)):
                self._advance(transfer_size(component))
                return
            try:
                self._fetch_patiently(component)
            except (requests.RequestException, OSError, *_BROKEN_OFF) as error:
                raise FetchError(
                    f"{component.file} cannot be fetched: {_without_passwords(str(error))}"
                ) from error

    def _fetch_patiently(self, component: Component) -> None:
        location = locate(component, self._session)
        for attempt in range(_ATTEMPTS):
            try:
                self._fetch_from(component, location)
                return
            except _BROKEN_OFF:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.5 * 2**attempt)

    def _fetch_from(self, component: Component, location: Location) -> None:
        if component.mode == "file":
            self._put(component.sha256, self._fetch_whole(component, location))
        elif component.file.endswith(TAR_ENDINGS):
            self._fetch_tar_members(component, location)
        else:
            self._fetch_zip_members(component, location)

    @property
    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = open_session()
        session: requests.Session = self._local.session
        return session

    def _fetch_whole(self, component: Component, location: Location) -> Path:
        """Fetch the file, going on where an earlier try was cut off; checked by its digest."""
        part = self._partial / component.sha256
        resumed = part.exists()
        self._download_rest(component, location, part)
        if resumed and _file_sha256(part) != component.sha256:
            part.unlink()  # what lay there from before was no beginning of this file
            self._download_rest(component, location, part)
        if _file_sha256(part) != component.sha256:
            part.unlink()
            raise FetchError(_wrong_digest(component.file))
        return part

    def _download_rest(self, component: Component, location: Location, part: Path) -> None:
        have = part.stat().st_size if part.exists() else 0
        if have >= component.size:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._get(location, headers) as answer:
            resumed = answer.status_code == requests.codes.partial_content
            with part.open("ab" if resumed else "wb") as file:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
                    self._advance(len(chunk))

    def _get(self, location: Location, headers: dict[str, str]) -> requests.Response:
        headers = {**location.headers, **_AS_IT_IS, **headers}
        answer = self._session.get(location.url, headers=headers, stream=True, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer

    def _fetch_zip_members(self, component: Component, location: Location) -> None:
        """Read single members by HTTP range; from a server that knows none, the whole file."""
        options = {"headers": {**location.headers, **_AS_IT_IS}, "timeout": TIMEOUT}
        try:
            with RemoteZip(location.url, session=self._session, **options) as archive:
                self._put_zip_members(component, archive)
        except RemoteZipError:
            part = self._fetch_whole(component, location)
            with zipfile.ZipFile(part) as whole:
                self._put_zip_members(component, whole)
            part.unlink()

    def _put_zip_members(self, component: Component, archive: zipfile.ZipFile) -> None:
        for member in component.members:
            if self._has(member):
                continue  # from an earlier try
            try:
                data = archive.read(member.path)
            except KeyError as error:
                raise FetchError(_wrong_digest(component.file)) from error
            self._put_member(component, member, data)
            self._advance(len(data))

    def _fetch_tar_members(self, component: Component, location: Location) -> None:
        """Read a tar from its start until every wanted member was seen."""
        wanted = {member.path: member for member in component.members}
        with self._get(location, {}) as answer:
            counting = CountingReader(answer.raw, self._advance)
            with tarfile.open(fileobj=counting, mode="r|gz") as archive:
                for entry in archive:
                    member = wanted.pop(entry.name, None)
                    file = archive.extractfile(entry) if member else None
                    if member and file:
                        self._put_member(component, member, file.read())
                    if not wanted:
                        self._advance(component.size - counting.count)
                        return
        raise FetchError(_wrong_digest(component.file))

    def _put_member(self, component: Component, member: Member, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise FetchError(_wrong_digest(f"{member.path} of {component.file}"))
        self._put(member.sha256, data)


def _wrong_digest(what: str) -> str:
    return (
        f"{what} is not what lock.toml pins by SHA-256; the registry, or something on the way, "
        "serves other bytes"
    )


def _without_passwords(text: str) -> str:
    return re.sub(r"//[^/\s@]*@", "//", text)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
