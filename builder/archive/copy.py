"""Copying a member while its digests are made: constant memory, every byte read once."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from isal import isal_zlib

from ..errors import InputError

# A chunk stays in the processor's cache between reading, hashing and writing it.
_CHUNK = 1 << 20
_CHUNKS_IN_FLIGHT = 4

Progress = Callable[[int], None]
"""Told the number of bytes that were handled since the last call."""


class ByteSource(Protocol):
    """What a member is read from: an open binary file, or anything with its ``readinto``."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class ByteSink(Protocol):
    """What the archive is written to."""

    def write(self, data: memoryview, /) -> int: ...


@dataclass(frozen=True)
class Digests:
    """``crc32`` as ZIP stores it, ``sha256`` in lower-case hexadecimal."""

    crc32: int
    sha256: str


class Copier:
    """Copies members one after the other, through the same few buffers.

    SHA-256 is the slowest step, so it has a thread of its own; reading, CRC-32 and writing go on
    beside it. Use it as a context manager.
    """

    def __init__(self) -> None:
        self._buffers = [memoryview(bytearray(_CHUNK)) for _ in range(_CHUNKS_IN_FLIGHT)]
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def copy(self, source: ByteSource, sink: ByteSink, size: int, progress: Progress) -> Digests:
        """Copy exactly ``size`` bytes and return their digests.

        Raises InputError when the source ends early or holds more than ``size`` bytes.
        """
        sha256 = hashlib.sha256()
        crc32 = 0
        done = 0
        free = list(self._buffers)
        hashing: deque[tuple[Future[None], memoryview]] = deque()
        while done < size:
            if not free:
                future, buffer = hashing.popleft()
                future.result()
                free.append(buffer)
            whole = free.pop()
            chunk = whole[: min(_CHUNK, size - done)]
            _fill(source, chunk, done, size)
            hashing.append((self._pool.submit(sha256.update, chunk), whole))
            crc32 = isal_zlib.crc32(chunk, crc32)
            sink.write(chunk)
            done += len(chunk)
            progress(len(chunk))
        for future, _ in hashing:
            future.result()
        if source.readinto(memoryview(bytearray(1))):
            raise InputError("the model file grew while it was being read; build again")
        return Digests(crc32, sha256.hexdigest())


def _fill(source: ByteSource, chunk: memoryview, done: int, size: int) -> None:
    filled = 0
    while filled < len(chunk):
        try:
            count = source.readinto(chunk[filled:])
        except OSError as error:
            raise InputError(f"the model cannot be read: {error.strerror or error}") from error
        if not count:
            raise InputError(
                f"the model file ended after {done + filled:,} of {size:,} bytes; "
                "it was cut or is still being written"
            )
        filled += count
