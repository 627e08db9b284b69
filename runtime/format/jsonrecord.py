"""Reading JSON into frozen dataclasses, strictly: hostile input gets a sentence, not a crash."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


class RecordError(ValueError):
    """A JSON document does not have the form that its record asks for."""


def field(data: object, name: str, kind: type[T], where: str) -> T:
    """The value of a required field, checked for its type.

    Raises RecordError naming the field. ``bool`` is not taken for ``int``.
    """
    if not isinstance(data, dict):
        raise RecordError(f"{where} must be an object")
    if name not in data:
        raise RecordError(f"{where} lacks the field {name!r}")
    value: Any = data[name]
    if kind is float and type(value) is int:
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecordError(f"{where}: {name!r} must be {kind.__name__}")
    return value


def optional(data: object, name: str, kind: type[T], where: str) -> T | None:
    """As ``field``, but a missing or null field gives None."""
    if isinstance(data, dict) and data.get(name) is None:
        return None
    return field(data, name, kind, where)


def strings(data: object, name: str, where: str) -> tuple[str, ...]:
    """A required list of strings."""
    values = field(data, name, list, where)
    if not all(isinstance(value, str) for value in values):
        raise RecordError(f"{where}: {name!r} must hold strings only")
    return tuple(values)
