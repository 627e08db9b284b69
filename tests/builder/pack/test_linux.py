"""The Linux packs' libraries: what they ask of the system, and that nothing lies idle."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path

import elf
import pytest

# What the system brings: glibc's own libraries, and two that every distribution installs.
GLIBC = {
    "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1",
    "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
}  # fmt: skip
SYSTEM = {
    "runtime": {*GLIBC, "libz.so.1"},
    "native": {*GLIBC, "libstdc++.so.6", "libgcc_s.so.1"},
}
# The launcher's and the runtime's messages name this one: llama.cpp's libraries ask for it.
OLDEST_GLIBC = {"runtime": (2, 17), "native": (2, 34)}
MACHINES = {"x64": "x86_64", "arm64": "aarch64"}

PACKS = [
    "runtime/linux-x64.tar.gz",
    "runtime/linux-arm64.tar.gz",
    "native/linux-x64-cpu.tar.gz",
    "native/linux-arm64-cpu.tar.gz",
]
Files = dict[str, elf.Elf]


@pytest.fixture(scope="module", params=PACKS)
def member(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def files(member: str, unpack: Callable[[str], Path]) -> Files:
    root = unpack(member)
    return {
        path.relative_to(root).as_posix(): elf.read(path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() and path.name not in ("library.zip", "library.dat")
    }


def kind(member: str) -> str:
    return member.split("/")[0]


def test_architecture(member: str, files: Files) -> None:
    wanted = MACHINES[member.removesuffix(".tar.gz").split("-")[1]]
    assert {item.machine for item in files.values()} == {wanted}


def test_dependencies(member: str, files: Files) -> None:
    """Every library that is loaded is the system's, or lies where the loader is told to look."""
    used = set()
    for path, item in files.items():
        for name in set(item.needed) - SYSTEM[kind(member)]:
            folder = posixpath.dirname(path)
            places = {
                posixpath.normpath(search.replace("$ORIGIN", folder or ".") + "/" + name)
                for search in item.search
                if search
            }
            assert places & set(files), f"{path} wants {name}"
            used |= places
    assert {path for path in files if path.startswith("freeze_core.libs/")} <= used


def test_oldest_c_library(member: str, files: Files) -> None:
    wanted = {
        tuple(int(part) for part in version.removeprefix("GLIBC_").split("."))
        for item in files.values()
        for version in item.versions
        if version.startswith("GLIBC_2")
    }
    assert max(wanted)[:2] == OLDEST_GLIBC[kind(member)]
