"""Reading and moving PE headers, on the launcher itself and on damaged copies of it."""

from __future__ import annotations

import contextlib
import random
import struct

import pytest

from llamafile_build.head import pe, windows_launcher


@pytest.fixture
def stub():
    return bytearray(windows_launcher())


def field(stub, offset, layout, value):
    """Overwrites a field at `offset` from the PE signature."""
    (start,) = struct.unpack_from("<I", stub, 0x3C)
    struct.pack_into(layout, stub, start + offset, value)
    return bytes(stub)


def test_the_launcher_as_it_was_linked(stub):
    image = pe.parse(bytes(stub))
    assert image.subsystem == pe.SUBSYSTEM_CONSOLE
    assert image.headers_end <= image.size_of_headers == image.raw_start
    assert image.raw_end == len(stub)
    assert {".text", ".rdata"} <= {section.name for section in image.sections}
    assert image.sections[0].virtual_address <= image.entry_point < 1 << 20
    assert stub[image.timestamp_offset : image.timestamp_offset + 4] == bytes(4)
    assert image.directories[pe.DEBUG_DIRECTORY] == (0, 0)


def test_moving_changes_raw_pointers_only(stub):
    before = pe.parse(bytes(stub))
    headers = pe.moved(bytes(stub), 0x2000)
    after = pe.parse(bytes(headers).ljust(before.raw_start + 0x2000, b"\0") + stub[0x400:])
    assert [s.raw_pointer for s in after.sections if s.raw_size] == [
        s.raw_pointer + 0x2000 for s in before.sections if s.raw_size
    ]
    assert [s.virtual_address for s in after.sections] == [
        s.virtual_address for s in before.sections
    ]
    changed = [i for i in range(before.size_of_headers) if headers[i] != stub[i]]
    rows = [s.header for s in before.sections]
    assert changed and all(any(row + 20 <= i < row + 24 for row in rows) for i in changed)


def test_canonical_is_stable(stub):
    assert pe.canonical(bytes(stub)) == stub
    dated = field(stub, 8, "<I", 1234567890)
    assert pe.canonical(dated) == windows_launcher()


@pytest.mark.parametrize(
    ("offset", "layout", "value", "message"),
    [
        (0, "<I", 0, "no PE signature"),
        (4, "<H", 0xAA64, "for machine 0xaa64"),
        (24, "<H", 0x10B, r"not a PE32\+ program"),
        (6, "<H", 0, "no sections"),
        (6, "<H", 90, "is not whole|longer than its SizeOfHeaders"),
        (24 + 36, "<I", 0, "FileAlignment is none"),
        (24 + 60, "<I", 0x200, "longer than its SizeOfHeaders"),
        (24 + 60, "<I", 0x401, "no multiple of its FileAlignment"),
        (24 + 60, "<I", 0x600, "overlap its first section"),
        (24 + 108, "<I", 99, "do not fit its optional header"),
    ],
)
def test_programs_that_contradict_themselves(stub, offset, layout, value, message):
    with pytest.raises(pe.PeError, match=message):
        pe.parse(field(stub, offset, layout, value))


@pytest.mark.parametrize("directory", [pe.CERTIFICATE_DIRECTORY, pe.DEBUG_DIRECTORY])
def test_programs_that_a_move_would_break(stub, directory):
    with pytest.raises(pe.PeError, match="a move would break"):
        pe.moved(field(stub, 24 + 112 + 8 * directory, "<I", 0x9000), 0x200)
    with pytest.raises(pe.PeError, match="FileAlignment"):
        pe.moved(windows_launcher(), 0x100)


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + bytes(62), b"\x7fELF" + bytes(100)])
def test_what_is_no_program(data):
    with pytest.raises(pe.PeError):
        pe.parse(data)


def test_damage_is_an_error_or_nothing_worse(stub):
    """Cut anywhere and flipped anywhere, only PeError comes out."""
    chance = random.Random(0)
    for length in range(0, 0x400, 7):
        with pytest.raises(pe.PeError):
            pe.parse(bytes(stub[:length]))
    for _ in range(3000):
        damaged = bytearray(stub)
        for _ in range(4):
            damaged[chance.randrange(0x400)] = chance.randrange(256)
        with contextlib.suppress(pe.PeError):
            pe.parse(bytes(damaged))
