"""Reading the body of POST /v1/chat/completions, which may come from anyone.

The fields are those of OpenAI's API reference (Chat Completions, "Create chat completion") and
llama.cpp's own ``top_k``, ``min_p`` and ``repeat_penalty``. A field that would change the answer
and is not supported is refused by name: a request is never half applied.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..engine.request import SamplingParams
from .http import ApiError

Message = dict[str, Any]

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_MAX_STOPS = 16
_RANDOM_SEED = 0xFFFF_FFFF  # LLAMA_DEFAULT_SEED

_READ = frozenset({
    "messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens",
    "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "frequency_penalty",
    "presence_penalty", "seed", "stop",
})  # fmt: skip

_NO_EFFECT = frozenset({
    # Labels for the provider's own books, and hints for caches that change no answer.
    "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "service_tier", "cache_prompt", "parallel_tool_calls",
})  # fmt: skip

_NEUTRAL: dict[str, tuple[object, ...]] = {
    # Unsupported fields, and the values with which they ask for nothing.
    "n": (1,), "store": (False,), "logprobs": (False,), "top_logprobs": (0,),
    "logit_bias": ({},), "tools": ([],),
    "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},), "modalities": (["text"],),
}  # fmt: skip


@dataclass(frozen=True)
class ChatRequest:
    """A checked request. ``messages`` have the keys that chat templates read."""

    messages: tuple[Message, ...]
    params: SamplingParams
    stream: bool
    include_usage: bool


def parse_chat_request(body: bytes, defaults: SamplingParams) -> ChatRequest:
    """The request in ``body``; fields that it lacks are taken from ``defaults``.

    Raises ApiError (400) which names the field at fault.
    """
    data = {key: value for key, value in _object(body).items() if value is not None}
    _refuse_unsupported(data)
    return ChatRequest(
        messages=_messages(data.get("messages")),
        params=_params(data, defaults),
        stream=_boolean(data, "stream"),
        include_usage=_include_usage(data),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ApiError(400, "The request body is not UTF-8 text.") from None
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"is wrong: {error}"
        raise ApiError(400, f"The request body must be JSON, but it {what}.") from None
    if not isinstance(data, dict):
        raise ApiError(400, "The request body must be a JSON object.")
    return data


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _invalid(param: str, rule: str, code: str | None = "invalid_value") -> ApiError:
    return ApiError(400, f"{param!r} {rule}.", param=param, code=code)


def _refuse_unsupported(data: Mapping[str, Any]) -> None:
    for key, value in data.items():
        if key in _READ or key in _NO_EFFECT:
            continue
        if key not in _NEUTRAL:
            raise _invalid(key[:80], "is not a parameter of this server", "unknown_parameter")
        # `in` would let True pass for 1.
        if not any(value == one and type(value) is type(one) for one in _neutral(key)):
            raise _invalid(key, "is not supported by this server", "unsupported_parameter")


def _neutral(key: str) -> tuple[object, ...]:
    return tuple(
        number
        for one in _NEUTRAL[key]
        for number in ((one, float(one)) if type(one) is int else (one,))
    )


def _boolean(data: Mapping[str, Any], name: str, where: str = "") -> bool:
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise _invalid(where + name, "must be true or false")
    return bool(value)


def _number(data: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise _invalid(name, f"must be a number from {low:g} to {high:g}")
    return float(value)


def _integer(data: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = data.get(name)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)  # JavaScript's JSON knows no integers
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _invalid(name, f"must be an integer from {low} to {high}")
    return value


def _include_usage(data: Mapping[str, Any]) -> bool:
    options = data.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _invalid("stream_options", "must be an object")
    if not data.get("stream"):
        raise _invalid("stream_options", "is allowed with 'stream': true only")
    unknown = set(options) - {"include_usage", "include_obfuscation"}
    if unknown:
        name = f"stream_options.{min(unknown)[:80]}"
        raise _invalid(name, "is not a parameter of this server", "unknown_parameter")
    if _boolean(options, "include_obfuscation", "stream_options."):
        name = "stream_options.include_obfuscation"
        raise _invalid(name, "is not supported by this server", "unsupported_parameter")
    return _boolean(options, "include_usage", "stream_options.")


def _params(data: Mapping[str, Any], defaults: SamplingParams) -> SamplingParams:
    changes: dict[str, Any] = {
        "temperature": _number(data, "temperature", 0, 100),
        "top_k": _integer(data, "top_k", -1, 1 << 30),
        "top_p": _number(data, "top_p", 0, 1),
        "min_p": _number(data, "min_p", 0, 1),
        "repeat_penalty": _number(data, "repeat_penalty", 0, 100),
        "frequency_penalty": _number(data, "frequency_penalty", -2, 2),
        "presence_penalty": _number(data, "presence_penalty", -2, 2),
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if "top_k" in changes:
        changes["top_k"] = max(0, changes["top_k"])  # both mean: all of them
    if "seed" in data:
        changes["seed"] = _seed(data)
    if "stop" in data:
        changes["stop"] = _stop(data["stop"])
    changes.update(_max_tokens(data))
    return replace(defaults, **changes)


def _seed(data: Mapping[str, Any]) -> int | None:
    """OpenAI's seeds have 64 bits, llama.cpp's 32, of which the largest means a random one."""
    value = _integer(data, "seed", -(1 << 63), (1 << 63) - 1)
    return None if value is None or value == -1 else value % _RANDOM_SEED


def _max_tokens(data: Mapping[str, Any]) -> dict[str, int | None]:
    """Empty when the request sets no limit; -1 (llama.cpp) lifts the default one."""
    if "max_tokens" in data and "max_completion_tokens" in data:
        raise _invalid("max_tokens", "and 'max_completion_tokens' cannot be used together")
    for name in ("max_completion_tokens", "max_tokens"):
        value = _integer(data, name, -1, 1 << 30)
        if value == 0:
            raise _invalid(name, "must be at least 1")
        if value is not None:
            return {"max_tokens": None if value == -1 else value}
    return {}


def _stop(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise _invalid("stop", "must be a non-empty string or a list of them")
    if len(stops) > _MAX_STOPS:
        raise _invalid("stop", f"must have at most {_MAX_STOPS} strings")
    return tuple(_encodable(stop, "stop") for stop in stops)


def _encodable(text: str, param: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _invalid(param, "holds a lone surrogate, which is no character") from None
    return text


def _messages(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _invalid("messages", "must be a non-empty list")
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(value))


def _message(item: object, where: str) -> Message:
    if not isinstance(item, dict):
        raise _invalid(where, "must be an object")
    fields = {key: value for key, value in item.items() if value is not None}
    role = fields.pop("role", None)
    if not isinstance(role, str) or role not in _ROLES:
        raise _invalid(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    message: Message = {
        "role": _ROLES[role],
        "content": _content(fields.pop("content", None), f"{where}.content"),
    }
    for key, value in fields.items():
        if key in ("name", "reasoning_content"):
            message[key] = _text(value, f"{where}.{key}")
        elif value not in ("", [], {}):  # what clients leave in an answer that they send back
            name = f"{where}.{key[:80]}"
            raise _invalid(name, "is not supported by this server", "unsupported_parameter")
    return message


def _content(value: object, where: str) -> str:
    """The text of a message; several text parts become paragraphs, as llama.cpp joins them."""
    if isinstance(value, list):
        return "\n".join(_part(part, f"{where}[{index}]") for index, part in enumerate(value))
    return _text(value, where)


def _part(part: object, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("image_url", "input_audio", "file"):
        raise _invalid(where, "is not text, and this model takes text only", "unsupported_content")
    if not isinstance(part, dict) or kind != "text":
        raise _invalid(where, 'must be {"type": "text", "text": …}')
    return _text(part.get("text"), f"{where}.text")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _invalid(where, "must be a string")
    return _encodable(value, where)
