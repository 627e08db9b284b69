"""Streamed answers, and what happens when somebody leaves."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llamafile_runtime.errors import NativeError
from llamafile_runtime.web.app import MAX_COMPLETIONS
from llamafile_runtime.web.completion import Cancel, EventStream

WAIT = 60  # seconds until a test that hangs fails; nothing is timed


def post(port: int, **fields: Any) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], **fields}).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def documents(body: bytes) -> list[Any]:
    """The JSON of each event; the last one must be [DONE]."""
    events = body.decode().split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    assert events.pop() == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


@contextmanager
def streaming(server: Any) -> Iterator[tuple[socket.socket, Any]]:
    """A connection on which a stepped answer runs, read up to its first event."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(post(server.port, stream=True))
        while stream.readline().strip():
            pass
        assert b'"role":"assistant"' in next_chunk(stream)
        yield connection, stream


def next_chunk(stream: Any) -> bytes:
    data: bytes = stream.read(int(stream.readline(), 16))
    stream.readline()
    return data


def test_a_stream(serve: Any, scripted: Any) -> None:
    pieces = ["Grüße", ' "quoted"\n\n', "\u2028data: [DONE]", "\x00👍"]
    answer = serve(scripted(pieces)).chat(stream=True)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    first, *middle, last = documents(answer.body)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [document["choices"][0]["delta"]["content"] for document in middle] == pieces
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert last["timings"]["predicted_n"] == 4
    everything = [first, *middle, last]
    assert {document["object"] for document in everything} == {"chat.completion.chunk"}
    assert len({(document["id"], document["created"]) for document in everything}) == 1
    assert not [document for document in everything if "usage" in document]


def test_usage_comes_in_a_chunk_of_its_own(server: Any) -> None:
    answer = server.chat(stream=True, stream_options={"include_usage": True})
    *others, last = documents(answer.body)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 9
    assert [document["usage"] for document in others] == [None] * 4


def test_a_limit_is_told(server: Any) -> None:
    server.engine.reason = "length"
    assert documents(server.chat(stream=True).body)[-1]["choices"][0]["finish_reason"] == "length"
    assert server.chat().json["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fault", "words"),
    [(NativeError("llama.cpp failed"), "llama.cpp failed"), (KeyError("x"), "a mistake")],
)
def test_a_failure_within_a_stream_is_its_last_event(server: Any, fault: Any, words: str) -> None:
    server.engine.break_with = fault
    events = server.chat(stream=True).body.decode().split("\n\n")
    assert '"content": "lo"' in events[-3]
    assert words in json.loads(events[-2].removeprefix("data: "))["error"]["message"]
    assert server.chat().status == 500


def test_each_token_is_sent_when_it_is_made(serve: Any, scripted: Any) -> None:
    server = serve(scripted(["a", "b", "c"], stepped=True))
    with streaming(server) as (_, stream):
        for made, piece in enumerate("abc", 1):
            server.engine.step()
            assert f'"content": "{piece}"'.encode() in next_chunk(stream)
            assert server.engine.made == made


def test_a_client_that_leaves_ends_its_answer(serve: Any, scripted: Any) -> None:
    server = serve(scripted(["x"] * 1000, stepped=True))
    with streaming(server) as (connection, stream):
        server.engine.step()
        next_chunk(stream)
        connection.shutdown(socket.SHUT_RDWR)
    # No token is let through any more: the engine must notice without one.
    assert server.engine.ended.wait(WAIT)
    assert server.engine.made == 1


def test_a_connection_that_is_reset_ends_its_answer(serve: Any, scripted: Any) -> None:
    server = serve(scripted(["x"] * 1000, stepped=True))
    with streaming(server) as (connection, stream):
        server.engine.step()
        next_chunk(stream)
        # Closing then sends RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert server.engine.ended.wait(WAIT)
    assert server.engine.made == 1


def test_leaving_also_ends_an_answer_that_is_not_streamed(serve: Any, scripted: Any) -> None:
    server = serve(scripted(["x"] * 1000, stepped=True))
    with server.connect() as connection:
        connection.sendall(post(server.port))
        server.engine.step(3)
        while server.engine.made < 3:
            threading.Event().wait(0.01)
    assert server.engine.ended.wait(WAIT)
    assert (server.engine.made, server.engine.outcome) == (3, "cancelled")


def test_leaving_is_noticed_behind_requests_that_wait(serve: Any, scripted: Any) -> None:
    server = serve(scripted(["x"] * 1000, stepped=True))
    with server.connect() as connection:
        connection.sendall(post(server.port) * 3)
        server.engine.step()
        while server.engine.made < 1:
            threading.Event().wait(0.01)
    assert server.engine.ended.wait(WAIT)
    assert server.engine.outcome == "cancelled"


def test_stopping_the_server_ends_its_answers(serve: Any, scripted: Any) -> None:
    server = serve(scripted(["x"] * 1000, stepped=True))
    with streaming(server) as (_, stream):
        server.engine.step()
        next_chunk(stream)
        server.stop.set()
        assert b"The server is stopping." in next_chunk(stream)
    assert (server.engine.made, server.engine.outcome) == (1, "cancelled")


def test_others_are_served_while_every_place_is_taken(serve: Any, scripted: Any) -> None:
    server = serve(scripted(["x"], stepped=True))
    connections = [server.connect() for _ in range(MAX_COMPLETIONS)]
    for connection in connections:
        connection.sendall(post(server.port, stream=True))
        assert connection.recv(5) == b"HTTP/"
    refused = server.chat()
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert server.get("/health").status == 200
    server.engine.step(MAX_COMPLETIONS + 1)
    for connection in connections:
        while connection.recv(1 << 16):
            pass
        connection.close()
    assert server.chat().status == 200


def test_a_body_that_was_never_read_gives_its_place_back() -> None:
    closed = []
    stream = EventStream(iter([b"never"]), lambda: closed.append(True))
    stream.close()
    stream.close()
    assert closed == [True]


def test_cancel_remembers() -> None:
    answers = iter([False, True])
    cancel = Cancel(lambda: next(answers))
    assert [cancel.is_set() for _ in range(3)] == [False, True, True]
    called_off = Cancel(lambda: False)
    called_off.set()
    assert called_off.is_set()
