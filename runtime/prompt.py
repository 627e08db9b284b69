"""String in, string out: continue a prompt on standard output."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from types import FrameType

from .console import harmless
from .engine.engine import Engine
from .engine.request import Event, Finish

INTERRUPTED = 130


def complete(engine: Engine, prompt: str) -> int:
    """Load the model, write the continuation, and give the exit code.

    Raises RuntimeFailure subclasses; BrokenPipeError when nobody reads any more.
    """
    try:
        engine.wait_ready()
        cancel = threading.Event()
        with interrupt_sets(cancel):
            finish = show(engine.complete(prompt, engine.defaults, cancel))
        return INTERRUPTED if finish.reason == "cancelled" else 0
    finally:
        engine.close()


def show(events: Generator[Event]) -> Finish:
    """Write pieces as they come, a newline at the end unless the text has one.

    A file or a pipe gets the model's text as it is, a terminal without control characters.
    """
    text = ""
    clean = harmless if sys.stdout.isatty() else str
    with closing(events):  # if writing fails, the request must end before the engine is closed
        for event in events:
            if isinstance(event, Finish):
                if not text.endswith("\n"):
                    sys.stdout.write("\n")
                    sys.stdout.flush()
                return event
            text = event.text
            sys.stdout.write(clean(text))
            sys.stdout.flush()
    raise AssertionError("a request ends with Finish")


@contextmanager
def interrupt_sets(cancel: threading.Event) -> Iterator[None]:
    """While it lasts, Ctrl-C sets ``cancel`` instead of raising.

    An exception could be raised inside a callback that C calls, where it would be lost.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        cancel.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
