"""A target's llama.cpp libraries, as their npm package holds them, in one flat folder."""

from __future__ import annotations

from ..components import Component, ComponentStore
from .packfile import PackEntry, PackError

_SUFFIXES = (".so", ".dylib", ".dll")
# Node's own glue, and helpers of llama.cpp's command line programs: nothing here calls them.
_UNUSED = ("llama-addon", "libllama-common", "llama-common")


def native_entries(component: Component, store: ComponentStore) -> list[PackEntry]:
    """The libraries of one llama.cpp component. Raises PackError when there are none."""
    entries = [
        PackEntry(name.rsplit("/", 1)[-1], data, executable=True)
        for name, data in store.contents(component)
        if name.startswith("package/bins/") and name.endswith(_SUFFIXES)
    ]
    entries = [entry for entry in entries if not entry.path.startswith(_UNUSED)]
    if not entries:
        raise PackError(f"{component.file} holds no libraries")
    return entries
