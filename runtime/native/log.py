"""What llama.cpp says: silent by default, its last complaints kept for error messages."""

from __future__ import annotations

import sys
from collections import deque

_WARN, _ERROR, _CONTINUED = 3, 4, 5  # ggml.h, enum ggml_log_level


class Log:
    """Takes llama.cpp's log lines. ``echo`` writes them to standard error as they come."""

    def __init__(self, *, echo: bool) -> None:
        self._echo = echo
        self._complaints: deque[str] = deque(maxlen=8)
        self._level = 0

    def take(self, level: int, text: bytes) -> None:
        """One event, as llama_log_set's callback gets it; text may be a part of a line."""
        if level != _CONTINUED:
            self._level = level
        if self._echo:
            sys.stderr.write(text.decode("utf-8", "replace"))
            sys.stderr.flush()
        if self._level >= _ERROR and text.strip():
            self._complaints.append(text.decode("utf-8", "replace").strip())

    def clear(self) -> None:
        """Forget earlier complaints, before a call whose failure is to be explained."""
        self._complaints.clear()

    def explain(self) -> str:
        """The complaint that says most, without the function's name; empty when there is none.

        The innermost comes first, and those after it only repeat that something failed.
        """
        if not self._complaints:
            return ""
        text = self._complaints[0]
        head, found, rest = text.partition(": ")
        return rest if found and " " not in head else text
