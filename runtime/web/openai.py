"""The documents of OpenAI's API that the server answers with (API reference, Chat and Models).

``timings`` is llama.cpp's addition, in its field names: counts, milliseconds, tokens a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..engine.engine import ModelInfo
from ..engine.request import Finish

Document = dict[str, object]


@dataclass(frozen=True)
class Answer:
    """What every document of one answer repeats. ``created`` is in seconds since 1970."""

    id: str
    model: str
    created: int


def completion(answer: Answer, text: str, finish: Finish) -> Document:
    """A whole answer."""
    return {
        **_envelope(answer, "chat.completion"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": finish.reason,
            }
        ],
        "usage": usage(finish),
        "timings": timings(finish),
    }


def chunk(
    answer: Answer,
    delta: Mapping[str, object],
    finish: Finish | None = None,
    *,
    with_usage: bool = False,
) -> Document:
    """One step of a stream. ``with_usage``: the client asked for a chunk with the usage later."""
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": finish.reason if finish else None,
    }
    document = {**_envelope(answer, "chat.completion.chunk"), "choices": [choice]}
    if with_usage:
        document["usage"] = None
    if finish:
        document["timings"] = timings(finish)
    return document


def usage_chunk(answer: Answer, finish: Finish) -> Document:
    """The chunk without choices that ``include_usage`` asks for."""
    return {**_envelope(answer, "chat.completion.chunk"), "choices": [], "usage": usage(finish)}


class TextChunks:
    """The events of a stream's text. Only the text differs, so the rest is encoded once."""

    def __init__(self, answer: Answer, *, with_usage: bool) -> None:
        mark = "\x00"
        whole = json.dumps(chunk(answer, {"content": mark}, with_usage=with_usage))
        start, _, end = whole.partition(json.dumps(mark))
        self._start = f"data: {start}".encode()
        self._end = f"{end}\n\n".encode()

    def event(self, text: str) -> bytes:
        return self._start + json.dumps(text).encode("ascii") + self._end


def usage(finish: Finish) -> Document:
    return {
        "prompt_tokens": finish.prompt_tokens,
        "completion_tokens": finish.completion_tokens,
        "total_tokens": finish.prompt_tokens + finish.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": finish.timings.cached_tokens},
    }


def timings(finish: Finish) -> Document:
    times = finish.timings
    read = finish.prompt_tokens - times.cached_tokens
    return {
        "cache_n": times.cached_tokens,
        "prompt_n": read,
        "prompt_ms": round(times.prompt_seconds * 1000, 3),
        "prompt_per_second": _rate(read, times.prompt_seconds),
        "predicted_n": finish.completion_tokens,
        "predicted_ms": round(times.generation_seconds * 1000, 3),
        "predicted_per_second": _rate(finish.completion_tokens, times.generation_seconds),
    }


def model(name: str, created: int, info: ModelInfo | None) -> Document:
    """A model as GET /v1/models lists it; ``meta`` once it is loaded."""
    document: Document = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "llamafile-build",
    }
    if info is not None:
        meta = asdict(info)
        del meta["chat_template"]  # long, and of no use to a list
        document["meta"] = meta
    return document


def model_list(models: list[Document]) -> Document:
    return {"object": "list", "data": models}


def _envelope(answer: Answer, kind: str) -> Document:
    return {
        "id": answer.id,
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": None,
    }


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 2) if seconds > 0 else None
