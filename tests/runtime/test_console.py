"""Escapes as llama.cpp reads them."""

from __future__ import annotations

import pytest

from llamafile_runtime.console import harmless, unescape


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (r"a\nb\tc\rd", "a\nb\tc\rd"),
        (r"\\n", r"\n"),
        (r"\"q\' ", "\"q' "),
        (r"\x41\x4a", "AJ"),
        (r"\xe2\x82\xac", "€"),
        (r"\xe2", "\N{REPLACEMENT CHARACTER}"),
        (r"\q \x", r"\q \x"),
        ("ü\\", "ü\\"),
        ("", ""),
    ],
)
def test_unescape(text: str, meaning: str) -> None:
    assert unescape(text) == meaning


def test_a_model_cannot_steer_the_terminal() -> None:
    steering = "\x1b]52;c;aGk=\x07a\x1b[2Jb\rc\x9b31md\te\nf\x7f"
    shown = harmless(steering)
    assert shown == "\ufffd]52;c;aGk=\ufffda\ufffd[2Jb\ufffdc\ufffd31md\te\nf\ufffd"
    assert harmless("Grüße, 世界 👋\n") == "Grüße, 世界 👋\n"
