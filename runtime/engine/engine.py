"""The engine: one model, loaded in the background, answering one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .request import Event, SamplingParams

Message = Mapping[str, Any]
State = Literal["loading", "ready", "failed"]


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
    """Skeleton: the names that other parts may build on."""

    defaults: SamplingParams
    """What a request starts from; from config.json and the command line."""

    @property
    def state(self) -> State:
        raise NotImplementedError

    @property
    def progress(self) -> float:
        """Share of the model that is loaded, 0 to 1."""
        raise NotImplementedError

    @property
    def error(self) -> str | None:
        """Why loading failed, as a sentence for the user."""
        raise NotImplementedError

    @property
    def model_info(self) -> ModelInfo:
        """Raises NotReady before the model is loaded."""
        raise NotImplementedError

    def start_loading(self) -> None:
        """Load in a background thread."""
        raise NotImplementedError

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the model is loaded. Raises what loading raised, NotReady on timeout."""
        raise NotImplementedError

    def complete(
        self, prompt: str, params: SamplingParams, cancel: threading.Event, *, special: bool = True
    ) -> Iterator[Event]:
        """Continue a raw prompt. Special tokens in it are parsed if ``special``.

        Checks happen at the call, before the first event: BadRequest, ContextExceeded, NotReady.
        Closing the iterator ends the request.
        """
        raise NotImplementedError

    def chat(
        self, messages: Sequence[Message], params: SamplingParams, cancel: threading.Event
    ) -> Iterator[Event]:
        """Answer a conversation through the model's chat template. As ``complete``."""
        raise NotImplementedError

    def count_tokens(self, text: str, *, special: bool = True) -> int:
        raise NotImplementedError

    def close(self) -> None:
        """End the running request and free the model. Safe to call twice."""
        raise NotImplementedError
