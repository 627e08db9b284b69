"""What a chat request may say, and how each mistake in one is named."""

import json
from typing import Any

import pytest

from llamafile_runtime.engine.request import SamplingParams
from llamafile_runtime.web.chatrequest import ChatRequest, parse_chat_request
from llamafile_runtime.web.http import ApiError

DEFAULTS = SamplingParams(temperature=0.5, max_tokens=99, seed=4, stop=("default",))
HI = [{"role": "user", "content": "Hi"}]


def parse(**fields: Any) -> ChatRequest:
    return parse_chat_request(json.dumps({"messages": HI, **fields}).encode(), DEFAULTS)


def refusal(body: bytes | None = None, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        if body is None:
            parse(**fields)
        else:
            parse_chat_request(body, DEFAULTS)
    assert caught.value.status == 400
    assert str(caught.value).endswith(".")
    return caught.value


def test_defaults_hold_where_the_request_is_silent() -> None:
    request = parse()
    assert request == ChatRequest(tuple(HI), DEFAULTS, stream=False, include_usage=False)
    everything_null = dict.fromkeys(("temperature", "stop", "seed", "max_tokens", "n"))
    assert parse(**everything_null) == request


def test_every_sampling_field_arrives() -> None:
    params = parse(
        temperature=1, top_p=0.25, top_k=7, min_p=0.125, repeat_penalty=1.5, seed=11, stop="x",
        max_completion_tokens=5, frequency_penalty=-2, presence_penalty=2,
    ).params  # fmt: skip
    assert params == SamplingParams(
        temperature=1.0, top_p=0.25, top_k=7, min_p=0.125, repeat_penalty=1.5, seed=11,
        stop=("x",), max_tokens=5, frequency_penalty=-2.0, presence_penalty=2.0,
    )  # fmt: skip
    params.check()


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"max_tokens": 3}, "max_tokens", 3),
        ({"max_tokens": 3.0}, "max_tokens", 3),
        ({"max_tokens": -1}, "max_tokens", None),
        ({"seed": -1}, "seed", None),
        ({"seed": (1 << 32) - 1}, "seed", 0),
        ({"seed": (1 << 63) - 1}, "seed", ((1 << 63) - 1) % 0xFFFFFFFF),
        ({"seed": -5}, "seed", 0xFFFFFFFA),
        ({"top_k": -1}, "top_k", 0),
        ({"stop": ["a", "b"]}, "stop", ("a", "b")),
        ({"stop": []}, "stop", ()),
        ({"temperature": 0}, "temperature", 0.0),
    ],
)
def test_values_with_a_meaning_of_their_own(fields: Any, name: str, value: object) -> None:
    params = parse(**fields).params
    assert getattr(params, name) == value
    params.check()  # the engine accepts all that the parser lets through


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 1e300}, "temperature"),
        ({"temperature": [1]}, "temperature"),
        ({"top_p": 1.01}, "top_p"),
        ({"min_p": -1}, "min_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": -2}, "top_k"),
        ({"top_k": 10**400}, "top_k"),
        ({"repeat_penalty": {}}, "repeat_penalty"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"seed": 1 << 63}, "seed"),
        ({"seed": False}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**20}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": 3}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": "\ud800"}, "stop"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"other": 1}}, "stream_options.other"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(fields: Any, param: str) -> None:
    error = refusal(**fields)
    assert error.param == param
    assert f"'{param}'" in str(error)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1}, {"n": 1.0}, {"tools": []}, {"tool_choice": "none"}, {"logprobs": False},
        {"top_logprobs": 0}, {"logit_bias": {}}, {"response_format": {"type": "text"}},
        {"user": "me"}, {"metadata": {"a": "b"}}, {"service_tier": "auto"}, {"store": False},
        {"model": "whatever"}, {"modalities": ["text"]}, {"cache_prompt": True},
    ],
)  # fmt: skip
def test_fields_that_ask_for_nothing_are_accepted(fields: Any) -> None:
    assert parse(**fields) == parse()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"n": 2}, "unsupported_parameter"),
        ({"n": True}, "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "unsupported_parameter"),
        ({"tool_choice": "required"}, "unsupported_parameter"),
        ({"functions": [{"name": "f"}]}, "unsupported_parameter"),
        ({"response_format": {"type": "json_schema"}}, "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "unsupported_parameter"),
        ({"logprobs": True}, "unsupported_parameter"),
        ({"logit_bias": {"5": 1}}, "unsupported_parameter"),
        ({"modalities": ["text", "audio"]}, "unsupported_parameter"),
        ({"grammar": "root ::= x"}, "unknown_parameter"),
        ({"temprature": 1}, "unknown_parameter"),
    ],
)
def test_what_would_change_the_answer_is_refused(fields: Any, code: str) -> None:
    error = refusal(**fields)
    assert (error.param, error.code) == (next(iter(fields)), code)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "must be JSON"),
        (b"{", "must be JSON"),
        (b"[]", "a JSON object"),
        (b'"text"', "a JSON object"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "must be JSON"),
        (b'{"temperature": NaN}', "NaN"),
        (b'{"temperature": -Infinity}', "-Infinity"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "must be JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 1_000_000, "nested too deeply"),
    ],
)
def test_a_body_that_is_no_json_object(body: bytes, words: str) -> None:
    assert words in str(refusal(body))


def test_a_number_too_large_for_a_float_is_out_of_range() -> None:
    body = b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}'
    assert refusal(body).param == "temperature"


def test_messages_as_templates_read_them() -> None:
    messages = parse(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "name": "Ada", "content": [
                {"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
            # What the openai client gives back of an answer.
            {"role": "assistant", "content": "Yes.", "refusal": None, "tool_calls": None,
             "annotations": [], "reasoning_content": "Hm."},
            {"role": "user", "content": ""},
        ]
    ).messages  # fmt: skip
    assert messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "Ada", "content": "One.\nTwo."},
        {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."},
        {"role": "user", "content": ""},
    )


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ({}, "messages"),
        ("Hi", "messages"),
        (["Hi"], "messages[0]"),
        ([{"content": "Hi"}], "messages[0].role"),
        ([{"role": "tool", "content": "Hi"}], "messages[0].role"),
        ([{"role": ["user"], "content": "Hi"}], "messages[0].role"),
        ([*HI, {"role": "user"}], "messages[1].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": {"type": "text"}}], "messages[0].content"),
        ([{"role": "user", "content": ["Hi"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": "\udfff"}], "messages[0].content"),
        ([{"role": "assistant", "content": "x", "tool_calls": [1]}], "messages[0].tool_calls"),
        ([{"role": "user", "content": "x", "name": 1}], "messages[0].name"),
    ],
)
def test_a_wrong_message_is_refused_by_its_place(messages: Any, param: str) -> None:
    assert refusal(messages=messages).param == param


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_what_the_model_cannot_see_is_refused(kind: str) -> None:
    part = {"type": kind, kind: {"url": "data:"}}
    error = refusal(messages=[{"role": "user", "content": [part]}])
    assert (error.param, error.code) == ("messages[0].content[0]", "unsupported_content")


def test_missing_messages() -> None:
    assert refusal(b"{}").param == "messages"


def test_usage_is_told_when_asked_for() -> None:
    request = parse(stream=True, stream_options={"include_usage": True})
    assert request.stream
    assert request.include_usage
    assert not parse(stream=True, stream_options={}).include_usage
