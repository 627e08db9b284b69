"""A built file with its real model, asked by OpenAI's own client."""

import socket
from typing import Any

import openai
import pytest

pytestmark = pytest.mark.e2e

QUESTION: Any = [{"role": "user", "content": "What is the capital of France? One word."}]


@pytest.fixture(scope="module")
def client(real_server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{real_server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model(client: openai.OpenAI) -> str:
    [model] = client.models.list().data
    assert client.models.retrieve(model.id) == model
    return model.id


def test_an_answer(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    choice = answer.choices[0]
    assert "Paris" in (choice.message.content or "")
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert answer.model == model
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 20 < answer.usage.prompt_tokens < 60


def test_a_streamed_answer_is_the_same(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=model, messages=QUESTION, temperature=0, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) > 3  # token by token
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage
    assert whole.usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_system_message_counts(client: openai.OpenAI, model: str) -> None:
    def tokens(*messages: Any) -> int:
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=1)
        assert answer.usage
        return answer.usage.prompt_tokens

    longer = tokens({"role": "system", "content": "Answer like a pirate. " * 20}, *QUESTION)
    assert longer > tokens(*QUESTION) + 60


def test_limits_and_stops(client: openai.OpenAI, model: str) -> None:
    cut = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_completion_tokens=3
    )
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage
    assert cut.usage.completion_tokens == 3
    stopped = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, stop=["Paris"]
    )
    assert stopped.choices[0].finish_reason == "stop"
    assert "Paris" not in (stopped.choices[0].message.content or "")
    assert (stopped.choices[0].message.content or "").strip()


def test_a_seed_decides(client: openai.OpenAI, model: str) -> None:
    def story(seed: int) -> str | None:
        return client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Tell me a story."}],
            temperature=2, seed=seed, max_tokens=20,
        ).choices[0].message.content  # fmt: skip

    assert story(1) == story(1)
    assert len({story(1), story(2), story(3)}) > 1


def test_a_prompt_that_is_too_long(client: openai.OpenAI, model: str) -> None:
    long: Any = [{"role": "user", "content": "word " * 20_000}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=model, messages=long, stream=stream)
        assert caught.value.code == "context_length_exceeded"
        assert "20" in caught.value.message


def test_errors_become_the_clients_exceptions(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError, match="'n' is not supported"):
        client.chat.completions.create(model=model, messages=QUESTION, n=2)
    tool: Any = {"type": "function", "function": {"name": "f"}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=QUESTION, tools=[tool])
    assert caught.value.param == "tools"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=model, input="x")


def test_a_client_that_leaves_makes_room(real_server: Any, client: openai.OpenAI) -> None:
    """One request runs at a time, so the next answer needs the end of the one before."""
    endless: Any = [{"role": "user", "content": "Write a very long story about the sea."}]
    for _ in range(3):
        with client.chat.completions.create(
            model="any", messages=endless, stream=True, temperature=2, extra_body={"min_p": 0.2}
        ) as stream:
            assert next(iter(stream)).choices
    answer = client.chat.completions.create(model="any", messages=QUESTION, temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")


def test_unicode_arrives_whole(client: openai.OpenAI) -> None:
    """Tokens may end within a character; events must not."""
    echo: Any = [{"role": "user", "content": "Repeat exactly: 👩‍🚀 日本語 ñ"}]
    chunks = client.chat.completions.create(
        model="any", messages=echo, temperature=0, stream=True, max_tokens=40
    )
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "\ufffd" not in "".join(texts)


def test_other_names_are_refused(real_server: Any) -> None:
    with socket.create_connection(("127.0.0.1", real_server.port), timeout=60) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 403 ")


def test_a_second_start_of_the_same_file(real_server: Any) -> None:
    run = real_server.start_again()
    assert run.returncode == 0
    assert f"is already running at {real_server.url}/" in run.stdout
