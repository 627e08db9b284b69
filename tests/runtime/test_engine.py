"""The engine on a real model: answers, stops, limits, cancellation, shared prefixes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llamafile_runtime.archive import open_archive
from llamafile_runtime.compose import native_member
from llamafile_runtime.engine.engine import Engine
from llamafile_runtime.engine.loading import EngineOptions
from llamafile_runtime.engine.request import Event, Finish, Piece, SamplingParams
from llamafile_runtime.errors import BadRequest, ContextExceeded, ModelError, NotReady
from llamafile_runtime.native.pack import unpack_native
from llamafile_runtime.native.weights import Weights

FRANCE = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
STORY = "<|im_start|>user\nTell me a long story.<|im_end|>\n<|im_start|>assistant\n"
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def options(
    file: Path, llama_cpp: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineOptions]:
    archive = open_archive(file)
    record = archive.record("model/smollm2.gguf")
    libraries = unpack_native(archive, native_member(archive), tmp_path_factory.mktemp("native"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(llama_cpp)
        yield EngineOptions(
            weights=Weights(file, record.offset, record.size),
            libraries=lambda: libraries,
            context=512,
            threads=1,
        )


@pytest.fixture(scope="module")
def engine(options: EngineOptions) -> Iterator[Engine]:
    engine = Engine(options)
    engine.wait_ready()
    yield engine
    engine.close()


def collect(events: Iterator[Event]) -> tuple[str, Finish]:
    *pieces, finish = list(events)
    assert isinstance(finish, Finish)
    assert all(isinstance(piece, Piece) and piece.text for piece in pieces)
    return "".join(piece.text for piece in pieces if isinstance(piece, Piece)), finish


def complete(
    engine: Engine, prompt: str = FRANCE, params: SamplingParams = GREEDY
) -> tuple[str, Finish]:
    return collect(engine.complete(prompt, params, threading.Event()))


def test_string_in_string_out(engine: Engine) -> None:
    text, finish = complete(engine)
    assert text == "The capital of France is Paris."
    assert finish.reason == "stop"
    assert finish.prompt_tokens == 16
    assert finish.completion_tokens == 8  # seven words and signs, and the end


def test_the_model_is_known(engine: Engine) -> None:
    info = engine.model_info
    assert engine.state == "ready"
    assert engine.progress == 1
    assert info.architecture == "llama"
    assert info.quantization == "Q4_1"
    assert info.context == 512
    assert info.trained_context == 8192
    assert info.license == "apache-2.0"
    assert "<|im_start|>" in info.chat_template


def test_length(engine: Engine) -> None:
    text, finish = complete(engine, params=replace(GREEDY, max_tokens=3))
    assert (text, finish.reason, finish.completion_tokens) == ("The capital of", "length", 3)
    text, finish = complete(engine, params=replace(GREEDY, max_tokens=0))
    assert (text, finish.reason, finish.completion_tokens) == ("", "length", 0)


def test_stop_strings_across_tokens(engine: Engine) -> None:
    text, finish = complete(engine, params=replace(GREEDY, stop=("ance is P",)))
    assert (text, finish.reason) == ("The capital of Fr", "stop")


def test_every_token_is_counted_once(engine: Engine) -> None:
    events = list(engine.complete(FRANCE, GREEDY, threading.Event()))
    counted = sum(event.token_count for event in events if isinstance(event, Piece))
    assert counted == events[-1].completion_tokens - 1  # type: ignore[union-attr]


def test_a_seed_repeats_and_no_seed_does_not(engine: Engine) -> None:
    hot = SamplingParams(temperature=1.5, top_p=1, min_p=0, top_k=0, max_tokens=12, seed=4)
    assert complete(engine, STORY, hot)[0] == complete(engine, STORY, hot)[0]
    free = replace(hot, seed=None)
    assert len({complete(engine, STORY, free)[0] for _ in range(4)}) > 1


def test_narrow_sampling_is_greedy(engine: Engine) -> None:
    greedy = complete(engine)[0]
    for narrow in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}):
        assert complete(engine, params=SamplingParams(temperature=2, **narrow))[0] == greedy  # type: ignore[arg-type]


def test_penalties_change_the_answer(engine: Engine) -> None:
    prompt = "red red red red red red"
    plain = complete(engine, prompt, replace(GREEDY, max_tokens=6))[0]
    assert plain.count("red") >= 5
    for penalty in ({"repeat_penalty": 5.0}, {"presence_penalty": 50.0}):
        params = replace(GREEDY, max_tokens=6, **penalty)
        assert complete(engine, prompt, params)[0].count("red") < plain.count("red")


def test_a_shared_prefix_is_read_once_and_changes_nothing(engine: Engine) -> None:
    alone = complete(engine)[0]
    complete(engine, STORY, replace(GREEDY, max_tokens=4))
    text, finish = complete(engine)
    assert 0 < finish.timings.cached_tokens < finish.prompt_tokens
    assert text == alone
    text, finish = complete(engine)
    assert finish.timings.cached_tokens == finish.prompt_tokens - 1
    assert text == alone


def test_a_longer_conversation_goes_on_where_it_stood(engine: Engine) -> None:
    first, finish = complete(engine)
    longer = f"{FRANCE}{first}<|im_end|>\n<|im_start|>user\nAnd of Italy?<|im_end|>\n"
    _, later = complete(engine, longer, replace(GREEDY, max_tokens=1))
    assert later.timings.cached_tokens >= finish.prompt_tokens


def test_cancelling_ends_at_the_next_token(engine: Engine) -> None:
    cancel = threading.Event()
    events = engine.complete(STORY, GREEDY, cancel)
    assert isinstance(next(events), Piece)
    cancel.set()
    rest = list(events)
    assert isinstance(rest[-1], Finish)
    assert rest[-1].reason == "cancelled"
    assert rest[-1].completion_tokens == 1


def test_cancelling_while_the_prompt_is_read(engine: Engine) -> None:
    cancel = threading.Event()
    cancel.set()
    text, finish = collect(engine.complete(STORY * 8, GREEDY, cancel))
    assert (text, finish.reason, finish.completion_tokens) == ("", "cancelled", 0)
    assert complete(engine)[0] == "The capital of France is Paris."


def test_closing_the_events_lets_the_next_request_in(engine: Engine) -> None:
    events = engine.complete(STORY, GREEDY, threading.Event())
    next(events)
    events.close()
    assert complete(engine)[0] == "The capital of France is Paris."


def test_requests_wait_for_their_turn(engine: Engine) -> None:
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(complete(engine)[0])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["The capital of France is Paris."] * 4


def test_a_waiting_request_can_be_cancelled(engine: Engine) -> None:
    first = engine.complete(STORY, GREEDY, threading.Event())
    next(first)
    cancel = threading.Event()
    cancel.set()
    _, finish = collect(engine.complete(FRANCE, GREEDY, cancel))
    assert finish.reason == "cancelled"
    first.close()


def test_the_context_is_a_limit(engine: Engine) -> None:
    with pytest.raises(ContextExceeded) as caught:
        engine.complete("word " * 600, GREEDY, threading.Event())
    assert caught.value.context_tokens == 512
    assert caught.value.prompt_tokens >= 600
    size = engine.count_tokens("word " * 500)
    _, finish = complete(engine, "word " * 500)
    assert size == finish.prompt_tokens
    assert size + finish.completion_tokens == 512
    assert finish.reason == "length"


def test_bad_requests_are_refused_at_the_call(engine: Engine) -> None:
    cancel = threading.Event()
    with pytest.raises(BadRequest, match="empty"):
        engine.complete("", GREEDY, cancel)
    with pytest.raises(BadRequest, match="top_p"):
        engine.complete("x", SamplingParams(top_p=2), cancel)
    with pytest.raises(BadRequest, match="no messages"):
        engine.chat([], GREEDY, cancel)
    with pytest.raises(BadRequest, match="refuses"):
        engine.chat([{"role": "user", "content": 3}], GREEDY, cancel)


@pytest.mark.parametrize("prompt", ["\0a\0b", "\ud800", "😀 ü", "a" * 400, "\r\n\t"])
def test_any_text_can_be_a_prompt(engine: Engine, prompt: str) -> None:
    _, finish = complete(engine, prompt, replace(GREEDY, max_tokens=2))
    assert finish.completion_tokens >= 1


def test_special_tokens_are_parsed_only_where_asked(engine: Engine) -> None:
    assert engine.count_tokens("<|im_start|>") == 1
    assert engine.count_tokens("<|im_start|>", special=False) > 1


def test_chat_renders_the_models_template(engine: Engine) -> None:
    system = {"role": "system", "content": "You are brief."}
    messages = [system, {"role": "user", "content": "Hi"}]
    expected = (
        "<|im_start|>system\nYou are brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert engine.render(messages) == expected
    text, finish = collect(engine.chat(messages, replace(GREEDY, max_tokens=8), threading.Event()))
    assert text
    assert finish.prompt_tokens == engine.count_tokens(expected)


def test_the_packed_system_prompt_and_template_come_first(options: EngineOptions) -> None:
    packed = replace(
        options,
        system_prompt="Be kind.",
        chat_template="{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}",
    )
    engine = Engine(packed)
    with pytest.raises(NotReady):
        engine.render([{"role": "user", "content": "Hi"}])
    engine.wait_ready()
    try:
        hi = {"role": "user", "content": "Hi"}
        assert engine.render([hi]) == "[system:Be kind.][user:Hi]"
        assert engine.render([{"role": "system", "content": "!"}, hi]) == "[system:!][user:Hi]"
    finally:
        engine.close()
    with pytest.raises(NotReady):
        engine.render([hi])


def test_a_broken_template_falls_back_with_a_note(options: EngineOptions) -> None:
    notes: list[str] = []
    engine = Engine(replace(options, chat_template="{% if %}", note=notes.append))
    engine.wait_ready()
    try:
        assert engine.render([{"role": "user", "content": "Hi"}]).startswith("<|im_start|>user\nHi")
        assert "ChatML" in notes[0]
    finally:
        engine.close()


def test_what_is_no_model_fails_with_a_reason(options: EngineOptions, tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    engine = Engine(replace(options, weights=Weights(path, 0, 104)))
    with pytest.raises(ModelError, match=r"no\.gguf cannot be loaded: \w+"):
        engine.wait_ready()
    assert engine.state == "failed"
    assert engine.error
    with pytest.raises(NotReady):
        engine.complete("x", GREEDY, threading.Event())
    engine.close()


def test_closing_ends_a_running_request(options: EngineOptions) -> None:
    engine = Engine(options)
    engine.wait_ready()
    started, events = threading.Event(), []

    def use() -> None:
        for event in engine.complete(STORY, GREEDY, threading.Event()):
            events.append(event)
            started.set()

    thread = threading.Thread(target=use)
    thread.start()
    started.wait()
    engine.close()
    engine.close()
    thread.join()
    assert events[-1].reason == "cancelled"


def test_closing_while_loading(options: EngineOptions) -> None:
    engine = Engine(options)
    engine.start_loading()
    engine.close()
    assert engine.state in ("failed", "ready")
    with pytest.raises(NotReady):
        engine.complete("x", GREEDY, threading.Event())
