"""Waitress servers around scripted engines, built files that serve, and sockets to talk to them."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scripted_engine import Scripted

from llamafile_runtime.web.app import AppInfo, create_app
from llamafile_runtime.web.httpd import listen, make_server, run_server


@dataclass
class Answer:
    """A parsed HTTP answer, from raw bytes."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"].endswith("."), error
        return dict(error)


def read_answer(stream: Any, *, head: bool = False) -> Answer:
    """The next answer on a connection's file; leaves what follows it."""
    status = int(stream.readline().split()[1])
    headers = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if head or status in (204, 304):
        body = b""
    elif "content-length" in headers:
        body = stream.read(int(headers["content-length"]))
    else:
        body = b"".join(chunks(stream))
    return Answer(status, headers, body)


def chunks(stream: Any) -> Iterator[bytes]:
    """The chunks of a chunked body, each as it comes."""
    while size := int(stream.readline(), 16):
        yield stream.read(size)
        stream.readline()
    stream.readline()


@dataclass
class Served:
    """A running server on a free port."""

    port: int
    engine: Any
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def send(self, raw: bytes, *, head: bool = False) -> Answer:
        """One answer to raw bytes."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            connection.sendall(raw)
            return read_answer(stream, head=head)

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> Answer:
        """A plain request; headers with ``_`` for ``-``; None leaves a usual one out."""
        usual: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        if body is not None:
            usual |= {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        usual |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}\r\n" for name, value in usual.items() if value is not None]
        head = f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1")
        return self.send(head + (body or b""), head=method == "HEAD")

    def get(self, path: str, **headers: str | None) -> Answer:
        return self.request("GET", path, **headers)

    def chat(self, **fields: Any) -> Answer:
        """POST /v1/chat/completions with a message unless the fields bring their own."""
        document = {"messages": [{"role": "user", "content": "Hi"}], **fields}
        return self.request("POST", "/v1/chat/completions", json.dumps(document).encode())


Serve = Callable[..., Served]


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers: ``serve(engine, **AppInfo fields)``."""
    running: list[tuple[Served, threading.Thread, Any]] = []

    def start(engine: Any, **fields: Any) -> Served:
        listener = listen("127.0.0.1", 0)
        served = Served(listener.getsockname()[1], engine)
        about = {"name": "Test model", "version": "1.2.3", "instance": "0123456789abcdef"}
        app = create_app(engine, AppInfo(**{**about, **fields}), served.stop.is_set)
        server = make_server(app, listener)

        def run() -> None:
            run_server(server, served.stop.is_set)
            server.close()

        thread = threading.Thread(target=run)
        thread.start()
        running.append((served, thread, server))
        return served

    yield start
    for served, thread, server in running:
        if not served.stop.is_set():
            served.stop.set()
            server.pull_trigger()
        thread.join()


@pytest.fixture
def server(serve: Serve) -> Served:
    """A server whose engine says Hello."""
    return serve(Scripted())
