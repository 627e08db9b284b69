"""What the engine is asked for, and what it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import BadRequest


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen and when to stop; meanings as llama.cpp's options have them.

    ``temperature`` 0 or less takes the likeliest token. ``top_k`` 0 means no limit, ``min_p`` 0
    and ``top_p`` 1 mean none. ``repeat_penalty`` 1 means none; it, ``frequency_penalty`` and
    ``presence_penalty`` look at the last ``penalty_window`` tokens (-1: the whole context).
    ``seed`` None takes a new one. ``max_tokens`` None means until the model stops or the context
    is full. No text from a ``stop`` string on is ever given.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_window: int = 64
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise BadRequest naming the first value that is out of range."""
        ranges: tuple[tuple[str, float | None, float, float], ...] = (
            ("temperature", self.temperature, -1, 100),
            ("top_k", self.top_k, -1, 1 << 30),
            ("top_p", self.top_p, 0, 1),
            ("min_p", self.min_p, 0, 1),
            ("repeat_penalty", self.repeat_penalty, 0, 100),
            ("frequency_penalty", self.frequency_penalty, -100, 100),
            ("presence_penalty", self.presence_penalty, -100, 100),
            ("penalty_window", self.penalty_window, -1, 1 << 30),
            ("seed", self.seed, 0, 0xFFFF_FFFF),
            ("max_tokens", self.max_tokens, 0, 1 << 30),
        )
        for name, value, low, high in ranges:
            # A NaN fails every comparison, hence the form of this one.
            if value is not None and not low <= value <= high:
                raise BadRequest(f"{name} must be between {low} and {high}, not {value}")
        if any(not stop for stop in self.stop):
            raise BadRequest("stop strings must not be empty")


@dataclass(frozen=True)
class Piece:
    """A bit of the answer: whole characters, never empty; ``token_count`` tokens made it."""

    text: str
    token_count: int


@dataclass(frozen=True)
class Timings:
    """Seconds spent waiting for one's turn, reading the prompt and generating.

    ``cached_tokens`` of the prompt were still in the context from the request before.
    """

    queue_seconds: float
    prompt_seconds: float
    generation_seconds: float
    cached_tokens: int


FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Finish:
    """The last thing that a request gives. ``stop``: the model or a stop string ended it."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    timings: Timings


Event = Piece | Finish
"""Any number of pieces, then one Finish."""
