"""A scripted engine, a real Waitress server around it, and sockets to talk to it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from llamafile_runtime.engine.engine import Engine, ModelInfo, State
from llamafile_runtime.engine.request import Event, Finish, Piece, SamplingParams, Timings
from llamafile_runtime.web.app import AppInfo, create_app
from llamafile_runtime.web.httpd import listen, make_server

INFO = ModelInfo(
    name="Scripted", architecture="none", parameters=1, quantization="F32", size=4, context=100,
    trained_context=100, license=None, chat_template="{{ messages }}", vocabulary=2,
)  # fmt: skip


class Scripted(Engine):
    """Answers with the pieces it was given; what it was asked is in ``asked``.

    With ``stepped`` each piece waits for one ``step()``, so that a test decides when a token
    is made. ``made`` counts the pieces; ``ended`` is set when nothing runs any more, with the
    way it ended in ``outcome``.
    """

    def __init__(self, pieces: Sequence[str] = ("Hel", "lo"), *, stepped: bool = False) -> None:
        self.defaults = SamplingParams(temperature=0.5)
        self.pieces = pieces
        self.stepped = stepped
        self.now: State = "ready"
        self.share = 0.0
        self.fault: str | None = None
        self.refuse: Exception | None = None  # raised by chat()
        self.break_with: Exception | None = None  # raised after the last piece
        self.reason: Any = "stop"
        self.asked: list[tuple[list[Any], SamplingParams]] = []
        self.made = 0
        self.outcome = ""
        self.ended = threading.Event()
        self._steps = threading.Semaphore(0)

    def step(self, count: int = 1) -> None:
        self._steps.release(count)

    @property
    def state(self) -> State:
        return self.now

    @property
    def progress(self) -> float:
        return self.share

    @property
    def error(self) -> str | None:
        return self.fault

    @property
    def model_info(self) -> ModelInfo:
        return INFO

    def chat(
        self, messages: Sequence[Mapping[str, Any]], params: SamplingParams, cancel: threading.Event
    ) -> Iterator[Event]:
        if self.refuse:
            raise self.refuse
        self.asked.append(([dict(message) for message in messages], params))
        self.made = 0
        self.outcome = "closed"
        self.ended.clear()
        return self._answer(cancel)

    def _answer(self, cancel: threading.Event) -> Iterator[Event]:
        try:
            for piece in self.pieces:
                while self.stepped and not self._steps.acquire(timeout=0.02):
                    if cancel.is_set():
                        break
                if cancel.is_set():
                    self.outcome = "cancelled"
                    yield self._finish("cancelled")
                    return
                self.made += 1
                yield Piece(piece, 1)
            if self.break_with:
                raise self.break_with
            self.outcome = "finished"
            yield self._finish(self.reason)
        finally:
            self.ended.set()

    def _finish(self, reason: Any) -> Finish:
        return Finish(reason, 7, self.made, Timings(0.0, 0.5, 2.0, 3))

    def close(self) -> None:
        pass


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
            while not served.stop.is_set():
                server.asyncore.loop(timeout=1, use_poll=True, map=server._map, count=1)
            server.task_dispatcher.shutdown()
            server.close()

        thread = threading.Thread(target=run)
        thread.start()
        running.append((served, thread, server))
        return served

    yield start
    for served, thread, server in running:
        served.stop.set()
        server.pull_trigger()
        thread.join()


@pytest.fixture
def server(serve: Serve) -> Served:
    """A server whose engine says Hello."""
    return serve(Scripted())
