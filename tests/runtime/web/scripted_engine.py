"""An engine that answers from a script, under a test's control."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llamafile_runtime.engine.engine import Engine, ModelInfo, State
from llamafile_runtime.engine.request import Event, Finish, Piece, SamplingParams, Timings
from llamafile_runtime.errors import ModelError

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

    def start_loading(self) -> None:
        """Nothing loads: a test sets ``now``."""

    def wait_ready(self, timeout: float | None = None) -> None:
        while self.now == "loading":
            time.sleep(0.01)
        if self.now == "failed":
            raise ModelError(self.fault or "")

    def close(self) -> None:
        self.outcome = "engine closed"
