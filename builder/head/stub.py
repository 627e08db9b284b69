"""The prebuilt Windows launcher and its pin.

A user's build must not wait for a compiler, so the program that ci/build_stub.py makes of
launcher_templates/stub.c and inflate.zig is kept as package data. The pin beside it says what it
was made of and with; CI makes it again and compares every byte.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.resources import files

from llamafile_build.errors import BuilderError
from llamafile_build.head.templates import template

STUB_NAME = "stub-windows-x64.exe"
PIN_NAME = "stub-windows-x64.json"
SOURCES = ("stub.c", "inflate.zig")


class StubError(BuilderError):
    """The Windows launcher in this installation is not the one that was pinned."""


@dataclass(frozen=True)
class StubPin:
    """What the prebuilt launcher was made of: hashes are SHA-256 in lower hex."""

    compiler: str
    sources: dict[str, str]
    sha256: str
    size: int

    @classmethod
    def from_json(cls, text: bytes) -> StubPin:
        """Reads the pin file. Raises StubError when it is something else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise StubError(f"{PIN_NAME} is damaged: install llamafile-build again") from error

    def to_json(self) -> bytes:
        """The pin file's text."""
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode("ascii")


def source_hashes() -> dict[str, str]:
    """The SHA-256 of each source that the launcher is compiled from."""
    return {name: hashlib.sha256(template(name)).hexdigest() for name in SOURCES}


def windows_launcher() -> bytes:
    """The plain launcher program: as NAME.exe it runs NAME or NAME.llamafile beside it.

    Raises StubError when the installed one is not the pinned one.
    """
    folder = files("llamafile_build.head")
    try:
        program = folder.joinpath(STUB_NAME).read_bytes()
        pin = StubPin.from_json(folder.joinpath(PIN_NAME).read_bytes())
    except FileNotFoundError as error:
        raise StubError(f"{STUB_NAME} is missing: install llamafile-build again") from error
    if hashlib.sha256(program).hexdigest() != pin.sha256:
        raise StubError(f"{STUB_NAME} is damaged: install llamafile-build again")
    return program
