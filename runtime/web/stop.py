"""Being asked to end: Ctrl-C, SIGTERM, a closed terminal."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count."""

_ECHO_SECONDS = 1.0


class Stop:
    """The wish to end, from a signal. A second one ends the process at once.

    Wrappers such as ``timeout`` send each signal twice, so one that follows within
    ``_ECHO_SECONDS`` is the same wish.
    """

    def __init__(self) -> None:
        self.wake: Callable[[], object] = lambda: None
        """Called by the first signal, to interrupt whatever waits."""
        self._signal: int | None = None
        self._since = 0.0

    def requested(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """What the process says at its end: an interruption, or that all is well."""
        return INTERRUPTED if self._signal == signal.SIGINT else 0

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take the signals that ask a program to end. Works in the main thread only."""

        def handle(number: int, frame: FrameType | None) -> None:
            if not self.requested():
                self._signal, self._since = number, time.monotonic()
                self.wake()
            elif time.monotonic() - self._since > _ECHO_SECONDS:
                os._exit(128 + number)

        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        # One that is ignored stays so: nohup, or a shell's background job.
        wanted = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, handle) for number in wanted}
        if sys.platform != "win32":
            # Writing to a client that left must be an error, not the end. Python ignores SIGPIPE
            # at its own start; the frozen runtime's host does not.
            before[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
