"""Text that may be shown: whole characters, and nothing of a stop string."""

from __future__ import annotations

import random

import pytest

from llamafile_runtime.engine.text import TextStream


def test_characters_are_never_broken() -> None:
    stream = TextStream()
    shown = [stream.feed(bytes([byte])) for byte in "aé€😀".encode()]
    assert shown == ["a", "", "é", "", "", "€", "", "", "", "😀"]


def test_half_a_character_at_the_end_is_dropped() -> None:
    stream = TextStream()
    assert stream.feed("ab€".encode()[:-1]) == "ab"
    assert stream.finish() == ""


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert TextStream().feed(b"a\xffb") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    ("pieces", "stop", "shown"),
    [
        (["Hello", " END", " more"], ("END",), "Hello "),
        (["Hello E", "N", "D more"], ("END",), "Hello "),
        (["Hello E", "N", "T more"], ("END",), "Hello ENT more"),
        (["one\n", "\ntwo"], ("\n\n",), "one"),
        (["aab"], ("ab", "aab"), ""),
        (["x a", "b y"], ("bbb", "ab"), "x "),
        (["ENEND"], ("END",), "EN"),
        (["EN"], ("END",), "EN"),
    ],
)
def test_stop_strings(pieces: list[str], stop: tuple[str, ...], shown: str) -> None:
    stream = TextStream(stop)
    text = "".join(stream.feed(piece.encode()) for piece in pieces)
    assert text + stream.finish() == shown
    assert stream.stopped == (shown != "".join(pieces))


def test_pieces_do_not_matter() -> None:
    chance = random.Random(3)
    for _ in range(300):
        text = "".join(chance.choice("ab€") for _ in range(30))
        stop = tuple(
            "".join(chance.choice("ab€") for _ in range(chance.randint(2, 4)))
            for _ in range(chance.randint(0, 2))
        )
        expected = text
        for place in range(len(text)):
            if any(text[:place].endswith(word) for word in stop):
                ends = [word for word in stop if text[:place].endswith(word)]
                expected = text[: place - max(map(len, ends))]
                break
        data, stream, shown = text.encode(), TextStream(stop), ""
        while data:
            size = chance.randint(1, 5)
            shown += stream.feed(data[:size])
            data = data[size:]
        shown += stream.finish()
        if not stream.stopped or all(len(word) == len(stop[0]) for word in stop):
            assert shown == expected or expected.endswith(stop)
