"""What a start was asked for: the command line over config.json over built-in values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .engine.request import SamplingParams
from .format.config import PackedConfig


@dataclass(frozen=True)
class Settings:
    """The command line's values; None where it says nothing. Units as in docs/format.md, 5."""

    model: Path | None = None
    context: int | None = None
    threads: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    system_prompt: str | None = None
    use_mmap: bool | None = None
    host: str | None = None
    port: int | None = None
    browser: bool | None = None
    verbose: bool | None = None

    def over(self, other: Settings) -> Settings:
        """These values, and ``other``'s where there are none."""
        merged = {}
        for item in fields(self):
            value = getattr(self, item.name)
            merged[item.name] = getattr(other, item.name) if value is None else value
        return Settings(**merged)

    @property
    def given(self) -> frozenset[str]:
        """The names of what the command line says."""
        return frozenset(item.name for item in fields(self) if getattr(self, item.name) is not None)


def from_config(config: PackedConfig) -> Settings:
    """What the packed configuration says, in the command line's terms."""
    sampling, server = config.sampling, config.server
    return Settings(
        context=server.context,
        threads=server.threads,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        repeat_penalty=sampling.repeat_penalty,
        seed=sampling.seed,
        max_tokens=sampling.max_tokens,
        system_prompt=config.system_prompt,
        host=server.host,
        port=server.port,
        browser=server.browser,
    )


def sampling_params(settings: Settings) -> SamplingParams:
    """What requests start from. A seed or token count of -1 stands for none, as in llama.cpp."""
    built_in = SamplingParams()
    values: dict[str, Any] = {
        name: getattr(built_in, name) if value is None else value
        for name, value in (
            ("temperature", settings.temperature),
            ("top_k", settings.top_k),
            ("top_p", settings.top_p),
            ("min_p", settings.min_p),
            ("repeat_penalty", settings.repeat_penalty),
        )
    }
    return SamplingParams(
        **values, seed=_some(settings.seed), max_tokens=_some(settings.max_tokens)
    )


def _some(value: int | None) -> int | None:
    return None if value is None or value < 0 else value
