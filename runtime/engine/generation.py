"""The generation loop: read the prompt, then sample, show and read token after token."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence

from ..errors import ContextExceeded
from ..native.context import Context
from ..native.model import Model
from ..native.sampler import SamplerSettings, sampler_chain
from .request import Event, Finish, FinishReason, Piece, SamplingParams, Timings
from .text import TextStream

_SEED_BITS = 31  # llama.cpp takes 2^32 - 1 for a wish for a seed of its own


def check_fits(tokens: Sequence[int], context: Context) -> None:
    """Raise ContextExceeded unless there is room for the prompt and one token of an answer."""
    if len(tokens) >= context.size:
        raise ContextExceeded(len(tokens), context.size)


def generate(
    model: Model,
    context: Context,
    tokens: Sequence[int],
    params: SamplingParams,
    cancelled: Callable[[], bool],
    queue_seconds: float,
) -> Generator[Event]:
    """Continue ``tokens``. They must fit (``check_fits``), and there must be at least one.

    ``cancelled()`` is asked before each token, and during the prompt, whether to stop.
    """
    started = time.monotonic()
    cached = context.keep_prefix(tokens)
    read = context.read(tokens[cached:], cancelled)
    prompt_seconds = time.monotonic() - started
    count = 0
    reason: FinishReason = "cancelled"
    if read:
        answer = _Answer(model, context, params, cancelled)
        with sampler_chain(model, _settings(params), context.size, tokens) as chain:
            for token, text in answer.run(chain, _most(params, tokens, context)):
                count += token
                if text:
                    yield text
        reason = answer.reason
    total = time.monotonic() - started
    timings = Timings(queue_seconds, prompt_seconds, total - prompt_seconds, cached)
    yield Finish(reason, len(tokens), count, timings)


class _Answer:
    """One answer in the making; ``reason`` tells at the end why it ended."""

    def __init__(
        self, model: Model, context: Context, params: SamplingParams, cancelled: Callable[[], bool]
    ) -> None:
        self._model = model
        self._context = context
        self._cancelled = cancelled
        self._text = TextStream(params.stop)
        self._unshown = 0
        self.reason: FinishReason = "length"

    def run(self, chain: object, most: int) -> Iterator[tuple[int, Piece | None]]:
        """At most ``most`` times: 1 for the token that was sampled, and what it lets be shown."""
        for index in range(most):
            if self._cancelled():
                self.reason = "cancelled"
                break
            token = self._context.sample(chain)
            if self._model.ends_generation(token):
                self.reason = "stop"
                yield 1, None
                break
            self._unshown += 1
            yield 1, self._piece(self._text.feed(self._model.piece(token)))
            if self._text.stopped:
                self.reason = "stop"
                break
            # The last token need not be read: nothing comes after it.
            if index + 1 < most and not self._context.read([token], self._cancelled):
                self.reason = "cancelled"
                break
        yield 0, self._piece(self._text.finish())

    def _piece(self, text: str) -> Piece | None:
        if not text:
            return None
        count, self._unshown = self._unshown, 0
        return Piece(text, count)


def _most(params: SamplingParams, tokens: Sequence[int], context: Context) -> int:
    room = context.size - len(tokens)
    return room if params.max_tokens is None else min(room, params.max_tokens)


def _settings(params: SamplingParams) -> SamplerSettings:
    seed = secrets.randbits(_SEED_BITS) if params.seed is None else params.seed
    return SamplerSettings(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repeat_penalty=params.repeat_penalty,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        penalty_window=params.penalty_window,
        seed=seed,
    )
