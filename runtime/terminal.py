"""A chat in the terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import closing, suppress

from .engine.engine import Engine
from .engine.request import Event, Piece
from .errors import BadRequest, ContextExceeded
from .prompt import interrupt_sets, show

_HELP = """\
/clear   forget the conversation
/exit    leave (so does Ctrl-D)
/help    this list
Ctrl-C stops an answer. A line that ends in \\ goes on in the next one."""


def chat(engine: Engine, title: str) -> int:
    """Talk until /exit or the end of input; gives the exit code. Raises RuntimeFailure."""
    people = sys.stdin.isatty()
    if people:
        with suppress(ImportError):
            import readline  # noqa: F401 - line editing and history for input()
        _say(f"{title}: /help lists the commands, Ctrl-D leaves.")
    try:
        engine.wait_ready()
        conversation = _Conversation(engine)
        while (line := _read("> " if people else "")) is not None:
            command = line.strip()
            if command in ("/exit", "/quit", "/bye"):
                break
            if command == "/clear":
                conversation.clear()
                _say("The conversation is forgotten.")
            elif command in ("/help", "/?"):
                _say(_HELP)
            elif command:
                conversation.answer(line)
        return 0
    finally:
        engine.close()


def _read(prompt: str) -> str | None:
    """A line, or several joined by a backslash at the end; None at the end of input."""
    lines: list[str] = []
    while True:
        try:
            line = input(prompt if not lines else "  " if prompt else "")
        except EOFError:
            if prompt:
                print()
            return "\n".join(lines) if lines else None
        except KeyboardInterrupt:
            print()
            _say("/exit or Ctrl-D leaves.")
            lines = []
            continue
        if not line.endswith("\\"):
            return "\n".join([*lines, line])
        lines.append(line[:-1])


class _Conversation:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._messages: list[dict[str, str]] = []

    def clear(self) -> None:
        self._messages = []

    def answer(self, text: str) -> None:
        """Send a message and write the answer; what cannot be answered is taken back."""
        asked = [*self._messages, {"role": "user", "content": text}]
        cancel = threading.Event()
        said: list[str] = []
        try:
            with interrupt_sets(cancel):
                show(_recorded(self._engine, asked, cancel, said))
        except ContextExceeded as error:
            _say(f"{error} - or forget the conversation with /clear")
            return
        except BadRequest as error:
            _say(str(error))
            return
        # An answer that was stopped belongs to the conversation all the same.
        self._messages = [*asked, {"role": "assistant", "content": "".join(said)}]


def _recorded(
    engine: Engine, messages: list[dict[str, str]], cancel: threading.Event, said: list[str]
) -> Generator[Event]:
    with closing(engine.chat(messages, engine.defaults, cancel)) as events:
        for event in events:
            if isinstance(event, Piece):
                said.append(event.text)
            yield event


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
