"""The Windows packs' libraries: all that they import is Windows' own or in the packs.

Wine brings its own copies of Microsoft's C++ runtime, so running under Wine does not show this.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pe
import pytest

# DLLs of every Windows 10, the Universal C Runtime's "api-ms-win-crt-*" among them.
SYSTEM = {
    "advapi32.dll", "bcrypt.dll", "iphlpapi.dll", "kernel32.dll", "ole32.dll", "oleaut32.dll",
    "rpcrt4.dll", "user32.dll", "version.dll", "ws2_32.dll",
}  # fmt: skip

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def runtime(unpack: Callable[[str], Path]) -> Files:
    return read(unpack("runtime/windows-x64.tar.gz"))


@pytest.fixture(scope="module")
def native(unpack: Callable[[str], Path]) -> Files:
    return read(unpack("native/windows-x64-cpu.tar.gz"))


def read(root: Path) -> Files:
    return {
        path.relative_to(root).as_posix().lower(): path.read_bytes()
        for path in root.rglob("*")
        if path.suffix in (".exe", ".dll", ".pyd")
    }


def wanted(data: bytes) -> set[str]:
    return {name for name in pe.imports(data) if not name.startswith("api-ms-win-")} - SYSTEM


def test_processor(runtime: Files, native: Files) -> None:
    assert {pe.machine(data) for data in (*runtime.values(), *native.values())} == {"x86_64"}


def test_the_host_finds_its_libraries(runtime: Files) -> None:
    """The loader looks beside the program, and beside a module that Python loads by its path."""
    for path, data in runtime.items():
        folder = path.rpartition("/")[0]
        for name in wanted(data):
            assert {f"bin/{name}", f"{folder}/{name}"} & set(runtime), f"{path} wants {name}"


def test_llama_finds_its_libraries(runtime: Files, native: Files) -> None:
    """In its own folder, or the C++ runtime beside the host."""
    for path, data in native.items():
        for name in wanted(data):
            assert name in native or f"bin/{name}" in runtime, f"{path} wants {name}"
    assert "msvcp140.dll" in wanted(native["llama.v0.4.0.dll"])


def test_nothing_lies_idle(runtime: Files, native: Files) -> None:
    used = {name for data in (*runtime.values(), *native.values()) for name in wanted(data)}
    libraries = {path.rsplit("/", 1)[-1] for path in runtime if path.endswith(".dll")}
    assert libraries <= used
