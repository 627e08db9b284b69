"""Where each member lies: pure arithmetic, known before a byte is written.

A member's data starts on its alignment because zero bytes are left between the end of the
previous member and its local header. The usual way, padding inside the header's extra field,
cannot reach every residue of 64 KiB: the field holds at most 65,535 bytes and at least four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .records import local_header_size


@dataclass(frozen=True)
class Planned:
    """A member to be placed: ``size`` and ``alignment`` of its data in bytes."""

    name: str
    size: int
    alignment: int = 1


@dataclass(frozen=True)
class Placed:
    """A member with its place; both offsets count from byte 0 of the file."""

    name: str
    size: int
    header_offset: int
    data_offset: int

    @property
    def end(self) -> int:
        return self.data_offset + self.size


def place(members: Sequence[Planned], start: int) -> tuple[Placed, ...]:
    """Lay members out one after the other from ``start`` on.

    Raises ValueError when two members have one name.
    """
    placed: list[Placed] = []
    cursor = start
    for member in members:
        header = local_header_size(member.name, member.size)
        data = _align_up(cursor + header, member.alignment)
        placed.append(Placed(member.name, member.size, data - header, data))
        cursor = data + member.size
    if len({member.name for member in members}) != len(members):
        raise ValueError("two members have the same name")
    return tuple(placed)


def _align_up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
