"""Third-party components: what is pinned, and a cache that holds exactly that."""

from .lock import Component, Lock, Member, load_lock
from .store import ComponentStore

__all__ = ["Component", "ComponentStore", "Lock", "Member", "load_lock"]
