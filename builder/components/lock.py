"""lock.toml: every third-party byte that a build uses, pinned by SHA-256."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, cast

from ..errors import BuilderError

Registry = Literal["pypi", "npm"]
Mode = Literal["file", "members"]
TAR_ENDINGS = (".tar.gz", ".tgz")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class LockError(BuilderError):
    """lock.toml does not have the form that it must have."""


@dataclass(frozen=True)
class Member:
    """A file inside a component's archive, ``size`` in bytes when unpacked."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Component:
    """One file of one release.

    ``mode`` is "file" when the whole file is fetched, "members" when only the named members are
    read, by HTTP range or by reading a tar archive's start. ``targets`` and ``python`` are None
    where the component serves all of them. ``sha256`` and ``size`` are those of the whole file,
    ``upstream`` is the version of what it repackages, ``license_members`` hold its licence texts.
    """

    id: str
    registry: Registry
    name: str
    version: str
    file: str
    size: int
    sha256: str
    license: str
    purpose: str
    upstream: str | None = None
    mode: Mode = "file"
    targets: tuple[str, ...] | None = None
    python: str | None = None
    members: tuple[Member, ...] = ()
    license_members: tuple[str, ...] = ()

    def member(self, path: str) -> Member:
        """The pinned member of that path. Raises LockError."""
        for member in self.members:
            if member.path == path:
                return member
        raise LockError(f"lock.toml: {self.id} has no member {path}")


@dataclass(frozen=True)
class Lock:
    """All components, in the order of lock.toml."""

    components: tuple[Component, ...]

    def component(self, component_id: str) -> Component:
        """The component of that id. Raises LockError."""
        for component in self.components:
            if component.id == component_id:
                return component
        raise LockError(f"lock.toml has no component {component_id}")

    def select(self, targets: Iterable[str], python: str) -> tuple[Component, ...]:
        """What a build for these targets with that Python (such as "3.11") puts into the file."""
        wanted = set(targets)
        return tuple(
            component
            for component in self.components
            if component.purpose != "model"
            and (component.targets is None or wanted.intersection(component.targets))
            and component.python in (None, python)
        )

    def pythons(self) -> tuple[str, ...]:
        """The Python minor versions that runtime packs can be made for."""
        return tuple(sorted({c.python for c in self.components if c.python}))


def blobs_of(component: Component) -> tuple[Member, ...]:
    """What the cache keeps of a component: its file, or its members."""
    if component.mode == "file":
        return (Member(component.file, component.size, component.sha256),)
    return component.members


def transfer_size(component: Component) -> int:
    """About how many bytes fetching takes: a tar has to be read from its start."""
    if component.mode == "file" or component.file.endswith(TAR_ENDINGS):
        return component.size
    return sum(member.size for member in component.members)


def load_lock() -> Lock:
    """The lock of this release. Raises LockError."""
    text = resources.files(__package__).joinpath("lock.toml").read_text(encoding="utf-8")
    return parse_lock(text)


def parse_lock(text: str) -> Lock:
    """Parse and check a lock file's text. Raises LockError naming the component at fault."""
    data = tomllib.loads(text)
    components = tuple(_component(item) for item in data["component"])
    ids = [component.id for component in components]
    if len(set(ids)) != len(ids):
        raise LockError("lock.toml has two components of one id")
    return Lock(components)


def _component(item: dict[str, Any]) -> Component:
    known = set(Component.__dataclass_fields__)
    if unknown := set(item) - known:
        raise LockError(f"lock.toml: {item.get('id')} has the unknown field {min(unknown)}")
    fields = dict(item)
    fields["members"] = tuple(
        Member(path, int(size), _digest(item["id"], sha256))
        for path, size, sha256 in cast("list[tuple[str, int, str]]", item.get("members", []))
    )
    for key in ("targets", "license_members"):
        if key in fields:
            fields[key] = tuple(fields[key])
    _digest(item["id"], item["sha256"])
    try:
        return Component(**fields)
    except TypeError as error:
        raise LockError(f"lock.toml: {item.get('id')}: {error}") from error


def _digest(component_id: str, sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise LockError(f"lock.toml: {component_id} has a SHA-256 of the wrong form")
    return sha256
