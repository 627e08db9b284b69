"""llama.cpp's sampler chain: from logits to the next token, without Python in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .model import Model

_MIN_KEEP = 1


@dataclass(frozen=True)
class SamplerSettings:
    """As engine.request.SamplingParams has them, but complete: ``seed`` is 0 to 2^32 - 1."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    penalty_window: int
    seed: int

    @property
    def penalizes(self) -> bool:
        return self.penalty_window != 0 and (
            self.repeat_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0
        )


@contextmanager
def sampler_chain(
    model: Model, settings: SamplerSettings, context: int, prompt: Sequence[int]
) -> Iterator[Any]:
    """A chain in llama.cpp's customary order, freed at the end.

    ``prompt`` counts as already said where repetition is penalized. ``context`` in tokens is
    what a ``penalty_window`` of -1 means.
    """
    api = model.api
    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    try:
        for sampler in _samplers(model, settings, context):
            api.llama_sampler_chain_add(chain, sampler)
        if settings.penalizes:
            window = _window(settings, context)
            for token in prompt[-window:]:
                api.llama_sampler_accept(chain, token)
        yield chain
    finally:
        api.llama_sampler_free(chain)


def _window(settings: SamplerSettings, context: int) -> int:
    return context if settings.penalty_window < 0 else min(settings.penalty_window, context)


def _samplers(model: Model, settings: SamplerSettings, context: int) -> Iterator[Any]:
    api = model.api
    if settings.penalizes:
        yield api.llama_sampler_init_penalties(
            model.vocabulary,
            _window(settings, context),
            max(settings.repeat_penalty, 1e-6),  # llama.cpp divides by it
            settings.frequency_penalty,
            settings.presence_penalty,
        )
    if settings.temperature <= 0:
        yield api.llama_sampler_init_greedy()
        return
    if settings.top_k > 0:
        yield api.llama_sampler_init_top_k(settings.top_k)
    if settings.top_p < 1:
        yield api.llama_sampler_init_top_p(settings.top_p, _MIN_KEEP)
    if settings.min_p > 0:
        yield api.llama_sampler_init_min_p(settings.min_p, _MIN_KEEP)
    yield api.llama_sampler_init_temp(settings.temperature)
    yield api.llama_sampler_init_dist(settings.seed)
