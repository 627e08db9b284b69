"""The engine: one model, loaded in the background, answering one request at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import BadRequest, NotReady, RuntimeFailure
from .generation import check_fits, generate
from .loading import EngineOptions, Loaded, load
from .request import Event, Finish, SamplingParams, Timings

Message = Mapping[str, Any]
State = Literal["loading", "ready", "failed"]

_SYSTEM_ROLES = ("system", "developer")
_CLOSE_SECONDS = 5.0
_TURN_SECONDS = 0.1  # how often a waiting request looks whether it was cancelled


@dataclass(frozen=True)
class ModelInfo:
    """What is known of the loaded model. ``context`` is the window in use, in tokens."""

    name: str
    architecture: str
    parameters: int
    quantization: str
    size: int
    context: int
    trained_context: int
    license: str | None
    chat_template: str
    vocabulary: int


class Engine:
    """One model. Every method may be called from any thread.

    ``defaults`` is what a request starts from: config.json and the command line.
    """

    def __init__(self, options: EngineOptions) -> None:
        self.defaults = options.defaults
        self._options = options
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._loaded: Loaded | None = None
        self._failure: BaseException | None = None
        self._progress = 0.0

    @property
    def state(self) -> State:
        if not self._done.is_set():
            return "loading"
        return "failed" if self._failure else "ready"

    @property
    def progress(self) -> float:
        """Share of the model that is loaded, 0 to 1."""
        return 1.0 if self.state == "ready" else self._progress

    @property
    def error(self) -> str | None:
        """Why loading failed, as a sentence for the user."""
        if self._failure is None:
            return None
        if isinstance(self._failure, RuntimeFailure):
            return str(self._failure)
        return f"loading failed: {type(self._failure).__name__}: {self._failure}"

    @property
    def model_info(self) -> ModelInfo:
        """Raises NotReady before the model is loaded."""
        loaded = self._ready()
        model = loaded.model
        return ModelInfo(
            name=self._options.name or model.metadata("general.name") or "model",
            architecture=model.metadata("general.architecture") or "unknown",
            parameters=model.parameters,
            quantization=model.quantization,
            size=model.size,
            context=loaded.context.size,
            trained_context=model.trained_context,
            license=self._options.license or model.metadata("general.license"),
            chat_template=loaded.template.text,
            vocabulary=model.vocabulary,
        )

    def start_loading(self) -> None:
        """Load in a background thread. A second call changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._load, name="load", daemon=True)
            self._thread.start()

    def _load(self) -> None:
        try:
            self._loaded = load(self._options, self._on_progress)
        except BaseException as error:
            self._failure = error
        self._done.set()

    def _on_progress(self, share: float) -> bool:
        self._progress = share
        return not self._closing.is_set()

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the model is loaded. Raises what loading raised, NotReady on timeout."""
        self.start_loading()
        if not self._done.wait(timeout):
            raise NotReady("the model is still loading; try again in a moment")
        if self._failure is not None:
            if isinstance(self._failure, RuntimeFailure):
                raise self._failure
            raise RuntimeFailure(self.error or "") from self._failure

    def complete(
        self, prompt: str, params: SamplingParams, cancel: threading.Event, *, special: bool = True
    ) -> Generator[Event]:
        """Continue a raw prompt. Special tokens in it are parsed if ``special``.

        Checks happen at the call, before the first event: BadRequest, ContextExceeded, NotReady.
        Closing the iterator ends the request.
        """
        loaded = self._ready()
        params.check()
        tokens = loaded.model.tokenize(prompt, special=special)
        if not tokens:
            raise BadRequest("the prompt is empty, and this model has no token to begin with")
        check_fits(tokens, loaded.context)
        return self._run(loaded, tokens, params, cancel)

    def chat(
        self, messages: Sequence[Message], params: SamplingParams, cancel: threading.Event
    ) -> Generator[Event]:
        """Answer a conversation through the model's chat template. As ``complete``."""
        return self.complete(self.render(messages), params, cancel)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt that a conversation becomes; the packed system prompt goes before one that
        has none. Raises BadRequest when the template refuses it, NotReady.
        """
        from .template import TemplateFault  # see loading.load: Jinja takes its time

        loaded = self._ready()
        if not messages:
            raise BadRequest("the conversation has no messages")
        try:
            return loaded.template.render(
                with_system_prompt(messages, self._options.system_prompt),
                bos_token=loaded.bos_token,
                eos_token=loaded.eos_token,
            )
        except TemplateFault as error:
            raise BadRequest(f"the chat template refuses these messages: {error}") from error

    def count_tokens(self, text: str, *, special: bool = True) -> int:
        return len(self._ready().model.tokenize(text, special=special))

    def close(self) -> None:
        """End the running request and free the model. Safe to call twice.

        What does not end in a few seconds stays in memory until the process ends: a request
        whose events nobody takes any more, or a slow disk from which the model is read.
        """
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
            if self._thread.is_alive():
                return
        if self._turn.acquire(timeout=_CLOSE_SECONDS):
            loaded, self._loaded = self._loaded, None
            if loaded is not None:
                loaded.close()
            self._turn.release()

    def _ready(self) -> Loaded:
        loaded = self._loaded
        if loaded is None or not self._done.is_set() or self._closing.is_set():
            raise NotReady(self.error or "the model is still loading; try again in a moment")
        return loaded

    def _run(
        self, loaded: Loaded, tokens: list[int], params: SamplingParams, cancel: threading.Event
    ) -> Generator[Event]:
        waiting = time.monotonic()

        def cancelled() -> bool:
            return cancel.is_set() or self._closing.is_set()

        while not self._turn.acquire(timeout=_TURN_SECONDS):
            if cancelled():
                yield Finish("cancelled", len(tokens), 0, Timings(0, 0, 0, 0))
                return
        try:
            queued = time.monotonic() - waiting
            if self._loaded is None:
                yield Finish("cancelled", len(tokens), 0, Timings(queued, 0, 0, 0))
                return
            yield from generate(loaded.model, loaded.context, tokens, params, cancelled, queued)
        finally:
            self._turn.release()


def with_system_prompt(messages: Sequence[Message], prompt: str | None) -> Sequence[Message]:
    """The conversation, begun by ``prompt`` unless it has a system message already."""
    if prompt is None or any(message.get("role") in _SYSTEM_ROLES for message in messages):
        return messages
    return [{"role": "system", "content": prompt}, *messages]
