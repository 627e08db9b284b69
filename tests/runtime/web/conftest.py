"""Waitress servers around scripted engines, built files that serve, and sockets to talk to them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
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
    end: Callable[[], None] = lambda: None
    """Ends the server and waits until its port is free."""

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
    """Starts servers: ``serve(engine, port=0, **AppInfo fields)``."""
    running: list[Served] = []

    def start(engine: Any, port: int = 0, **fields: Any) -> Served:
        listener = listen("127.0.0.1", port)
        served = Served(listener.getsockname()[1], engine)
        about = {"name": "Test model", "version": "1.2.3", "instance": "0123456789abcdef"}
        app = create_app(engine, AppInfo(**{**about, **fields}), served.stop.is_set)
        server = make_server(app, listener)
        thread = threading.Thread(target=run_server, args=(server, served.stop.is_set))
        thread.start()

        def end() -> None:
            if thread.is_alive():
                served.stop.set()
                server.pull_trigger()
                thread.join()
                for channel in list(server.active_channels.values()):
                    channel.handle_close()
                server.close()

        served.end = end
        running.append(served)
        return served

    yield start
    for served in running:
        served.end()


@dataclass(frozen=True)
class RealServer:
    """A built file that serves its model."""

    port: int
    process: subprocess.Popen[str]
    command: tuple[str, ...]
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_again(self) -> subprocess.CompletedProcess[str]:
        """Start the same file once more, in the same way."""
        return subprocess.run(
            self.command, env=self.environment, capture_output=True, text=True, timeout=120,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture(scope="session")
def real_server(built_unix: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A built file, started by its own launcher with a cache of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    # One thread: two that wait for each other stand still where other tests need the processors.
    command = ("sh", str(built_unix), "--no-browser", "--port", "0", "-t", "1", "--temp", "0")
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line
        server = RealServer(int(found[1]), process, command, environment)
        while _health(server.url) == 503:
            time.sleep(0.05)
        yield server
        process.terminate()
        assert process.wait(60) == 0


def _health(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def server(serve: Serve) -> Served:
    """A server whose engine says Hello."""
    return serve(Scripted())
