"""The terminal chat with a terminal: Ctrl-C stops an answer, Ctrl-D leaves."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="needs Unix terminals")


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, env={**environment, "TERM": "dumb"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, close_fds=True,
            # The terminal becomes the session's own, so that its Ctrl-C is a signal.
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )  # fmt: skip
        os.close(slave)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, pattern: str, *, again: str = "") -> str:
        """Read until the pattern appears; gives all up to its end, which is then forgotten.

        ``again`` is typed each second: a signal that comes while readline sets up is lost.
        """
        while not (match := re.search(pattern, self._seen)):
            if select.select([self._master], [], [], 1)[0]:
                self._seen += os.read(self._master, 4096).decode("utf-8", "replace")
            elif again:
                self.type(again)
        text, self._seen = self._seen[: match.end()], self._seen[match.end() :]
        return text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(file: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "llamafile_runtime", "--archive", str(file), "chat"]
    terminal = Terminal(command, environment)
    yield terminal
    terminal.close()


@pytest.mark.timeout(120)
def test_a_conversation(terminal: Terminal) -> None:
    terminal.until("/help lists.*\n")
    terminal.until("> ")
    terminal.type("Tell me a very long story.\n")
    terminal.until(r"\r\n\w+")
    terminal.type("\x03")
    terminal.until("> ")
    assert terminal.process.poll() is None
    terminal.type("\x03")
    terminal.until("Ctrl-D leaves", again="\x03")
    terminal.until("> ")
    terminal.type("/clear\n")
    terminal.until("forgotten")
    terminal.until("> ")
    terminal.type("\x04")
    assert terminal.process.wait() == 0
