"""Standard input and output: UTF-8 everywhere, bytes of arguments, whether people look."""

from __future__ import annotations

import io
import os
import re
import stat
import sys

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "'": "'", '"': '"', "\\": "\\"}


def use_utf8() -> None:
    """Write and read UTF-8 whatever the locale is: models know nothing else."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace", newline=_newline(stream))


def _newline(stream: io.TextIOWrapper) -> str | None:
    # An answer that goes into a file or a pipe is the model's text, without Windows' line ends.
    return None if stream is sys.stdin or stream.isatty() else "\n"


def argument_text(value: str) -> str:
    """An argument as text. In the C locale Python takes its bytes for something else than UTF-8."""
    if os.name == "nt":
        return value
    return os.fsencode(value).decode("utf-8", "replace")


def unescape(text: str) -> str:
    r"""Replace ``\n``, ``\t``, ``\r``, ``\\``, ``\"``, ``\'`` and ``\xNN`` as llama.cpp does.

    ``\xNN`` is a byte: several of them together may be one character. Others stay as they are.
    """
    out = bytearray()
    position = 0
    for match in _ESCAPE.finditer(text):
        out += text[position : match.start()].encode("utf-8", "replace")
        position = match.end()
        code = match[1]
        if len(code) > 1:
            out.append(int(code[1:], 16))
        else:
            out += _SIMPLE.get(code, match[0]).encode("utf-8", "replace")
    out += text[position:].encode("utf-8", "replace")
    return out.decode("utf-8", "replace")


def harmless(text: str) -> str:
    """Text for a terminal: a model must not move its cursor, set its title or fill its clipboard.

    Control characters but newline and tab become U+FFFD.
    """
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def stdin_is_redirected() -> bool:
    """Whether somebody pipes a text in: a file or a pipe, not a terminal or /dev/null."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def read_stdin() -> str:
    """All of standard input."""
    return sys.stdin.read()


def forget_stdout() -> None:
    """Nobody reads any more: keep Python's own flush at the end from complaining."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
