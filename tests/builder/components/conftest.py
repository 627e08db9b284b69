"""A registry on this machine: real sockets, and the faults that real ones have."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llamafile_build.components import Component, ComponentStore, Member


@dataclass
class Registry:
    """What the server serves, and what it was asked.

    ``ranges`` says whether it knows HTTP ranges, ``html`` whether its index speaks HTML only.
    ``cuts`` holds, for the next answers with a file, after how many bytes the connection breaks;
    ``statuses`` the status of the next answers, in place of the file. ``slow`` names a file that
    is served at 3 MB/s.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    html: bool = False
    login: str | None = None
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    delay: threading.Event | None = None
    slow: str | None = None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    def url(self, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}/simple"

    def asked_for(self, end: str) -> list[dict[str, str]]:
        """The headers of the requests whose path ends so."""
        return [headers for path, headers in self.requests if path.endswith(end)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        registry: Registry = self.server.registry
        registry.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        wanted = registry.login and "Basic " + base64.b64encode(registry.login.encode()).decode()
        if wanted and self.headers.get("Authorization") != wanted:
            self.answer(401, b"")
        elif "/simple/" in self.path:
            self.answer_index(registry)
        else:
            self.answer_file(registry, registry.files.get(self.path.rsplit("/", 1)[-1]))

    def answer_index(self, registry: Registry) -> None:
        if registry.html:
            links = "".join(
                f'<a href="../../files/{name}#sha256=0">{name}</a>' for name in registry.files
            )
            self.answer(200, f"<html><body>{links}</body></html>".encode(), "text/html")
            return
        files = [{"filename": name, "url": f"../../files/{name}"} for name in registry.files]
        text = json.dumps({"files": files}).encode()
        self.answer(200, text, "application/vnd.pypi.simple.v1+json")

    def answer_file(self, registry: Registry, data: bytes | None) -> None:
        if registry.delay:
            registry.delay.wait(10)
        if registry.statuses:
            self.answer(registry.statuses.pop(0), b"")
            return
        if data is None:
            self.answer(404, b"")
            return
        asked = self.headers.get("Range")
        if not asked or not registry.ranges:
            self.answer(200, data, cut=registry.cuts.pop(0) if registry.cuts else None)
            return
        first, last = asked.removeprefix("bytes=").split("-")
        start = int(first) if first else max(0, len(data) - int(last))
        end = int(last) + 1 if first and last else len(data)
        self.answer(
            206,
            data[start:end],
            cut=registry.cuts.pop(0) if registry.cuts else None,
            content_range=f"bytes {start}-{min(end, len(data)) - 1}/{len(data)}",
        )

    def answer(
        self,
        status: int,
        data: bytes,
        kind: str = "application/octet-stream",
        cut: int | None = None,
        content_range: str | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        try:
            self.send(data[:cut])
        except ConnectionError:
            self.close_connection = True
        if cut is not None:
            self.close_connection = True

    def send(self, data: bytes) -> None:
        if not self.path.endswith(self.server.registry.slow or "/"):
            self.wfile.write(data)
            return
        for start in range(0, len(data), 1 << 16):
            self.wfile.write(data[start : start + (1 << 16)])
            time.sleep(0.02)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(wrap: Callable[[Any], Any] | None = None, **fields: Any) -> Iterator[Registry]:
    registry = Registry(**fields)
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if wrap:
        server.socket = wrap(server.socket)
    server.registry = registry
    registry.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield registry
    server.shutdown()
    thread.join()
    server.server_close()


Serve = Callable[..., AbstractContextManager[Registry]]


@pytest.fixture
def serve() -> Serve:
    """Serve a Registry with these fields; ``wrap`` may put TLS around its socket."""
    return serving


@pytest.fixture
def clean_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings of pip, npm, requests or OpenSSL but those that a test makes; the home folder."""
    for name in list(os.environ):
        if name.lower().startswith(("pip_", "npm_", "http_proxy", "https_proxy", "all_proxy")):
            monkeypatch.delenv(name)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(home / "etc"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return home


@pytest.fixture
def registry(
    serve: Serve, clean_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Registry]:
    """The registry that pip's and npm's settings name."""
    with serve() as running:
        monkeypatch.setenv("PIP_INDEX_URL", running.url())
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{running.port}/npm/")
        yield running


@contextmanager
def silent(_title: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., ComponentStore]:
    """A store below this test's folder; all of them share their files."""

    def make(**options: Any) -> ComponentStore:
        return ComponentStore(tmp_path / "store", options.pop("progress", silent), **options)

    return make


def component(file: str, data: bytes, **fields: Any) -> Component:
    """A component for that file."""
    values: dict[str, Any] = {
        "id": file, "registry": "pypi", "name": "Some.Thing", "version": "1", "file": file,
        "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "license": "MIT",
        "purpose": "test",
    }  # fmt: skip
    return Component(**{**values, **fields})


def pinned(path: str, data: bytes) -> Member:
    return Member(path, len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Sample:
    """A file to serve, its component, and its members' bytes."""

    data: bytes
    component: Component
    members: dict[str, bytes]


def zip_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tar_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make_sample(kind: str) -> Sample:
    members = {"pkg/a.so": os.urandom(3000), "pkg/b.so": os.urandom(70_000)}
    rest = {"pkg/rest.bin": os.urandom(2_000_000)}
    if kind == "file":
        data = os.urandom(3_000_000)
        return Sample(data, component("whole-1.bin", data), {})
    pins = tuple(pinned(name, data) for name, data in members.items())
    if kind == "wheel":
        # What is wanted lies in the middle: neither its start nor its end would do.
        data, file = zip_bytes({**rest, **members, "end": os.urandom(500_000)}), "thing-1.whl"
    else:
        data, file = tar_bytes({**members, **rest}), "thing-1.tar.gz"
    return Sample(data, component(file, data, mode="members", members=pins), members)


@pytest.fixture(params=["file", "wheel", "tar"])
def sample(request: pytest.FixtureRequest) -> Sample:
    """One component of each way of fetching."""
    return make_sample(request.param)


@pytest.fixture
def other_sample(sample: Sample) -> Sample:
    """Another file with the same names."""
    kinds = {"bin": "file", "whl": "wheel", "gz": "tar"}
    return make_sample(kinds[sample.component.file.rsplit(".", 1)[-1]])


@pytest.fixture
def make_component() -> Callable[..., Component]:
    return component


@pytest.fixture
def make_zip() -> Callable[[dict[str, bytes]], bytes]:
    return zip_bytes


@pytest.fixture
def pin() -> Callable[[str, bytes], Member]:
    return pinned
