"""The prebuilt Windows launcher is what its sources compile to."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from llamafile_build.head import stub

ROOT = Path(__file__).parents[3]


def test_the_pin_names_these_sources():
    pin = stub.StubPin.from_json((ROOT / "builder" / "head" / stub.PIN_NAME).read_bytes())
    assert pin.sources == stub.source_hashes()
    assert pin.sha256 == hashlib.sha256(stub.windows_launcher()).hexdigest()
    assert pin.size == len(stub.windows_launcher())
    assert pin.to_json() == (ROOT / "builder" / "head" / stub.PIN_NAME).read_bytes()


def test_compiling_it_again_gives_the_same_bytes(tmp_path):
    output = tmp_path / "stub.exe"
    command = [sys.executable, str(ROOT / "ci" / "build_stub.py"), "-o", str(output)]
    subprocess.run(command, check=True, timeout=800)
    assert output.read_bytes() == stub.windows_launcher()


def test_the_launcher_imports_only_kernel32():
    program = stub.windows_launcher().lower()
    assert program.count(b".dll\0") == program.count(b"kernel32.dll\0") == 1


def test_damaged_pins_are_told():
    with pytest.raises(stub.StubError, match="install llamafile-build again"):
        stub.StubPin.from_json(b'{"compiler": 1}')
    with pytest.raises(stub.StubError, match="install llamafile-build again"):
        stub.StubPin.from_json(b"\xff")
