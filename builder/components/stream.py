"""A reader that tells how much was read."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Protocol


class Readable(Protocol):
    """What is read from, such as an HTTP answer's raw body."""

    def read(self, size: int, /) -> bytes: ...


class CountingReader(io.BufferedIOBase):
    """Passes reads on and reports the bytes; ``count`` is their sum."""

    def __init__(self, source: Readable, advance: Callable[[int], None]) -> None:
        super().__init__()
        self._source = source
        self._advance = advance
        self.count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._source.read(-1 if size is None else size)
        self.count += len(data)
        self._advance(len(data))
        return data
