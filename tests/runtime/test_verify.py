"""Every byte of a file counts: each is changed once, and the complaint names its place."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from llamafile_runtime.archive import open_archive
from llamafile_runtime.errors import ArchiveError
from llamafile_runtime.verify import verify_archive

from .conftest import HEAD_SIZE, write_archive

PACK = b"a runtime pack"


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.llamafile"
    members = {
        "runtime/linux-x64.tar.gz": PACK,
        "native/linux-x64-cpu.tar.gz": b"native",
        "licenses/a.txt": b"text",
        "model/m.gguf": b"GGUF and so on",
    }
    line = f"pack_linux_x64='69632 {len(PACK)} {hashlib.sha256(PACK).hexdigest()}'\n"
    return write_archive(path, members, boot_table=line)


def fault(path: Path) -> str:
    try:
        verify_archive(open_archive(path))
    except ArchiveError as error:
        return str(error)
    return ""


def test_a_sound_file_passes_and_all_of_it_is_read(sound: Path) -> None:
    counts: list[int] = []
    verify_archive(open_archive(sound), counts.append)
    assert sum(counts) == sound.stat().st_size


def test_every_byte_after_the_head_counts(sound: Path) -> None:
    data = sound.read_bytes()
    spans = {}
    with zipfile.ZipFile(sound) as archive:
        for record in open_archive(sound).members:
            spans[record.name] = range(record.offset, record.offset + record.size)
        directory = archive.start_dir
    names = {place: name for name, span in spans.items() for place in span}
    padding = [place for place in range(HEAD_SIZE, directory) if place not in names]
    # Of the long stretches of zeros some bytes stand for all.
    dull = {place for place in padding if not any(data[place - 64 : place + 64])}
    for place in range(HEAD_SIZE, len(data)):
        if place in dull and place % 997:
            continue
        changed = bytearray(data)
        changed[place] ^= 0x41
        sound.write_bytes(changed)
        complaint = fault(sound)
        assert complaint, place
        assert names.get(place, "") in complaint, (place, complaint)
        assert "\n" not in complaint


@pytest.mark.parametrize("place", [0, 5, 40, 1000, HEAD_SIZE - 1])
def test_the_head_counts(sound: Path, place: int) -> None:
    data = bytearray(sound.read_bytes())
    data[place] ^= 0x20
    sound.write_bytes(data)
    assert "launcher" in fault(sound)


def test_a_false_boot_table_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x"
    line = f"pack_linux_x64='4096 {len(PACK)} {hashlib.sha256(PACK).hexdigest()}'\n"
    write_archive(path, {"runtime/linux-x64.tar.gz": PACK, "model/m": b"m"}, boot_table=line)
    assert "table of runtimes" in fault(path)


def test_bytes_after_the_end_are_found(sound: Path) -> None:
    with sound.open("ab") as file:
        file.write(b"\0")
    assert "ZIP directory" in fault(sound)
