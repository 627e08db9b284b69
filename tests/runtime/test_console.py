"""Escapes as llama.cpp reads them."""

from __future__ import annotations

import pytest

from llamafile_runtime.console import unescape


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
