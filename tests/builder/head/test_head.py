"""The head's bytes: what stands where, for both kinds."""

from __future__ import annotations

import hashlib
import struct

import pytest

from llamafile_build.head import (
    HEAD_SIZE,
    BootEntry,
    BootTableError,
    HeadError,
    render_head,
    windows_launcher,
)
from llamafile_build.head.polyglot import polyglot

SHA = hashlib.sha256(b"").hexdigest()
LINUX = {"linux_x64": BootEntry(65536, 5000, SHA)}
BOTH = LINUX | {"windows_x64": BootEntry(73728, 1, SHA)}
FIRST_LINES = {"plain": b"#!/bin/sh", "polyglot": b"MZllamafile='"}


@pytest.fixture(params=["plain", "polyglot"])
def kind(request):
    return request.param


@pytest.fixture
def packs(kind):
    return LINUX if kind == "plain" else BOTH


def test_size_and_first_line(kind, packs):
    head = render_head(packs, title="x")
    assert len(head) == HEAD_SIZE
    assert head.partition(b"\n")[0] == FIRST_LINES[kind]


def test_same_input_same_bytes(packs):
    backwards = dict(reversed(packs.items()))
    assert render_head(packs, title="x") == render_head(backwards, title="x")


def test_boot_lines(packs):
    head = render_head(packs, title="x")
    assert head.count(f"\npack_linux_x64='65536 5000 {SHA}'\n".encode()) == 1
    assert head.count(f"\npack_windows_x64='73728 1 {SHA}'\n".encode()) == ("windows_x64" in packs)
    assert b"pack_linux_arm64='" not in head
    assert b"#@" not in head


def test_a_plain_head_is_text():
    head = render_head(LINUX, title="ünï")
    assert b"\0" not in head
    assert head.decode("utf-8").isascii() is False


def test_what_shells_and_windows_read_of_a_polyglot():
    head = render_head(BOTH, title="x")
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    assert head[pe : pe + 4] == b"PE\0\0"
    count, timestamp = struct.unpack_from("<HI", head, pe + 6)
    assert timestamp == 0
    (optional_size,) = struct.unpack_from("<H", head, pe + 20)
    (headers_size,) = struct.unpack_from("<I", head, pe + 24 + 60)
    table = pe + 24 + optional_size
    end = table + 40 * count
    # From the opening quote to the closing one lies no other; then the script begins.
    opening = head.index(b"'")
    assert opening < 0x3C
    assert head.index(b"'", opening + 1) == end
    assert head[end : end + 3] == b"'\n#"
    assert end <= headers_size
    stub = windows_launcher()
    script_end = head.index(b"\nexit 126\n")
    for row in range(count):
        name, _, address, size, raw = struct.unpack_from("<8sIIII", head, table + 40 * row)
        at = stub.index(name)
        was = struct.unpack_from("<8sIIII", stub, at)
        assert (address, size) == (was[2], was[3])
        assert raw % 512 == 0 and raw > script_end and raw + size <= HEAD_SIZE
        assert head[raw : raw + size] == stub[was[4] : was[4] + size]


@pytest.mark.parametrize(
    "title",
    [
        "it's",
        "a\nexec rm",
        "x\r\n\0y",
        "#@boot-table@",
        "'; touch /tmp/x; '",
        "模型",
        "",
        "y" * 9999,
    ],
)
def test_a_title_is_one_comment_line(title, packs):
    """Between the marker line and the launcher's own second comment, nothing but a comment."""
    head = render_head(packs, title=title)
    start = head.index(b"# llamafile-build head 1\n")
    line, following = head[start:].split(b"\n")[1:3]
    assert line.startswith(b"#") and len(line) < 1000 and b"\r" not in line
    assert following.startswith(b"# A shell script, a ZIP archive")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("amiga", BootEntry(65536, 1, SHA)),
        ("linux_x64", BootEntry(65537, 1, SHA)),
        ("linux_x64", BootEntry(-4096, 1, SHA)),
        ("linux_x64", BootEntry(65536, 0, SHA)),
        ("linux_x64", BootEntry(65536, 1, SHA.upper())),
        ("linux_x64", BootEntry(65536, 1, SHA[:-1])),
        ("linux_x64", BootEntry(65536, 1, SHA[:-1] + "'")),
        ("linux_x64", BootEntry(1 << 31, 1, SHA)),
    ],
)
def test_boot_entries_that_no_launcher_could_use(name, entry):
    with pytest.raises(BootTableError):
        render_head({name: entry}, title="x")


def test_a_target_without_a_runtime():
    with pytest.raises(BootTableError, match="no runtime for its target macos-x64"):
        render_head(LINUX, title="x", targets=["linux-x64", "macos-x64"])


def test_targets_default_to_what_the_packs_serve():
    macs = {"macos": BootEntry(65536, 1, SHA)}
    assert b"\ntargets='macos-arm64 macos-x64'\n" in render_head(macs, title="x")
    assert b"\ntargets='macos-x64'\n" in render_head(macs, title="x", targets=["macos-x64"])


def test_a_script_that_does_not_fit():
    with pytest.raises(HeadError, match="too large"):
        polyglot(windows_launcher(), b"#" * 30000, HEAD_SIZE)
    assert len(polyglot(windows_launcher(), b"#" * 20000, HEAD_SIZE)) == HEAD_SIZE


def test_a_quote_in_the_headers_is_refused():
    stub = bytearray(windows_launcher())
    (pe,) = struct.unpack_from("<I", stub, 0x3C)
    stub[pe + 24 + 2] = 0x27  # MajorLinkerVersion, which nobody reads
    with pytest.raises(HeadError, match="quote"):
        polyglot(bytes(stub), b"exit\n", HEAD_SIZE)
