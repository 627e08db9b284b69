"""Answering POST /v1/chat/completions: from a checked request to events or one document."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator

from ..engine.engine import Engine
from ..engine.request import Event, Finish, Piece
from ..errors import RuntimeFailure
from . import openai
from .chatrequest import ChatRequest
from .http import ApiError, Response, json_response
from .sse import DONE, SSE_HEADERS, event

_log = logging.getLogger(__name__)


class Cancel(threading.Event):
    """Set when a request was called off, or once ``gone()`` says that its client went away.

    The engine looks at it between tokens: no thread has to watch the connection.
    """

    def __init__(self, gone: Callable[[], bool]) -> None:
        super().__init__()
        self._gone = gone

    def is_set(self) -> bool:
        if not super().is_set() and self._gone():
            self.set()
        return super().is_set()


class EventStream:
    """The body of a streamed answer.

    A generator's own ``close`` runs nothing when it was never started, which is what happens
    when the client leaves at once; ``on_close`` always runs, and once.
    """

    def __init__(self, events: Iterator[bytes], on_close: Callable[[], None]) -> None:
        self._events = events
        self._on_close: Callable[[], None] | None = on_close

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()


def answer(
    engine: Engine,
    request: ChatRequest,
    model: str,
    gone: Callable[[], bool],
    done: Callable[[], None],
) -> Response:
    """The answer to ``request``; ``done`` is called once, when nothing runs for it any more.

    ``gone()`` says that nobody waits for the answer. Raises what ``Engine.chat`` raises when the
    request cannot be served.
    """
    cancel = Cancel(gone)
    try:
        events = engine.chat(request.messages, request.params, cancel)
    except BaseException:
        done()
        raise
    head = openai.Answer(f"chatcmpl-{secrets.token_hex(16)}", model, int(time.time()))

    def finish() -> None:
        cancel.set()
        _close(events)
        done()

    if request.stream:
        chunks = _stream(events, head, with_usage=request.include_usage)
        return Response(200, SSE_HEADERS, EventStream(chunks, finish))
    try:
        return _collect(events, head)
    finally:
        finish()


def _close(events: Iterator[Event]) -> None:
    close = getattr(events, "close", None)
    if close is not None:
        close()


def _collect(events: Iterator[Event], head: openai.Answer) -> Response:
    texts: list[str] = []
    for item in events:
        if isinstance(item, Piece):
            texts.append(item.text)
        elif item.reason == "cancelled":
            raise cancelled()
        else:
            return json_response(openai.completion(head, "".join(texts), item))
    raise RuntimeFailure("The engine ended without an answer.")


def _stream(events: Iterator[Event], head: openai.Answer, *, with_usage: bool) -> Iterator[bytes]:
    chunks = openai.TextChunks(head, with_usage=with_usage)
    role = {"role": "assistant", "content": ""}
    # At once, so that the client knows that it is heard while the prompt is read.
    yield event(openai.chunk(head, role, with_usage=with_usage))
    try:
        for item in events:
            if isinstance(item, Piece):
                yield chunks.event(item.text)
            else:
                yield _ending(item, head, with_usage=with_usage)
    except RuntimeFailure as error:
        yield event(ApiError(500, str(error), kind="server_error").document())
    except Exception:
        _log.exception("a streamed answer failed")
        yield event(internal_error().document())


def _ending(finish: Finish, head: openai.Answer, *, with_usage: bool) -> bytes:
    if finish.reason == "cancelled":
        return event(cancelled().document())
    last = event(openai.chunk(head, {}, finish, with_usage=with_usage))
    if with_usage:
        last += event(openai.usage_chunk(head, finish))
    return last + DONE


def cancelled() -> ApiError:
    """Seen by a client that is still there only when the server is being stopped."""
    return ApiError(503, "The server is stopping.", kind="server_error", code="cancelled")


def internal_error() -> ApiError:
    return ApiError(
        500,
        "The server made a mistake of its own; its terminal shows the details.",
        kind="server_error",
    )
