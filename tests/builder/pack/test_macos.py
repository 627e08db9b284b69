"""The macOS packs, which cannot be run here: everything that its loader would look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import macho
import pytest

# Our own oldest macOS: llama.cpp's libraries ask for it.
OLDEST = (14, 0)
SYSTEM = ("/usr/lib/", "/System/Library/")

# xnu, bsd/sys/codesign.h: either would refuse libraries that another team signed.
REQUIRE_LIBRARY_VALIDATION = 0x2000
HARDENED_RUNTIME = 0x10000

PACKS = {
    "runtime/macos.tar.gz": {"arm64", "x86_64"},
    "native/macos-arm64-metal.tar.gz": {"arm64"},
    "native/macos-x64-cpu.tar.gz": {"x86_64"},
}


@pytest.fixture(scope="module", params=PACKS)
def member(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def files(member: str, unpack: Callable[[str], Path]) -> dict[PurePosixPath, list[macho.Slice]]:
    """The pack's programs and libraries by their paths in it."""
    root = unpack(member)
    return {
        PurePosixPath(path.relative_to(root).as_posix()): macho.slices(path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() and path.name not in ("library.zip", "library.dat")
    }


Files = dict[PurePosixPath, list[macho.Slice]]


def test_architectures(member: str, files: Files) -> None:
    assert len(files) > 5
    for path, slices in files.items():
        assert {item.architecture for item in slices} == PACKS[member], path


def test_minimum_system(files: Files) -> None:
    for path, slices in files.items():
        for item in slices:
            assert item.minimum_os and item.minimum_os <= OLDEST, path


def resolve(name: str, path: PurePosixPath, item: macho.Slice) -> list[PurePosixPath]:
    """The places in the pack where the loader looks for a library (man dyld)."""
    if name.startswith("@rpath/"):
        names = [f"{rpath}/{name.removeprefix('@rpath/')}" for rpath in item.rpaths]
    else:
        names = [name]
    found = []
    for candidate in names:
        assert candidate.startswith("@loader_path"), f"{path} wants {candidate}"
        parts: list[str] = []
        for part in (path.parent / candidate.removeprefix("@loader_path").lstrip("/")).parts:
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        found.append(PurePosixPath(*parts))
    return found


def test_dependencies(files: Files) -> None:
    """Everything that is loaded is the system's or in the pack, in the same architecture."""
    for path, slices in files.items():
        for item in slices:
            for name in item.dependencies:
                if not name.startswith(SYSTEM):
                    places = [place for place in resolve(name, path, item) if place in files]
                    assert places, f"{path} wants {name}"
                    there = {other.architecture for other in files[places[0]]}
                    assert item.architecture in there


def test_signatures(files: Files) -> None:
    """Apple silicon runs signed code only. Signatures that are there fit every page."""
    for path, slices in files.items():
        for item in slices:
            assert item.signature or item.architecture != "arm64", path
            if item.signature:
                assert macho.broken_pages(item) == [], path


def test_the_host_may_load_libraries_of_others(unpack: Callable[[str], Path]) -> None:
    """llama.cpp's are signed by nobody: a hardened program would not be allowed to load them."""
    host = unpack("runtime/macos.tar.gz") / "bin" / "llamafile"
    for item in macho.slices(host.read_bytes()):
        flags = macho.signature_flags(item)
        assert not flags & (REQUIRE_LIBRARY_VALIDATION | HARDENED_RUNTIME)


def test_a_changed_byte_breaks_a_signature(files: Files) -> None:
    """The test above can fail."""
    item = next((i for slices in files.values() for i in slices if i.signature), None)
    if item is None:
        assert {i.architecture for slices in files.values() for i in slices} == {"x86_64"}
        return
    data = bytearray(item.data)
    data[5000] ^= 1
    broken = macho.Slice(item.architecture, (), (), None, item.signature, bytes(data))
    assert len(macho.broken_pages(broken)) == 1


def test_modes(member: str, files: Files, unpack: Callable[[str], Path]) -> None:
    for path in files:
        assert (unpack(member) / path).stat().st_mode & 0o777 == 0o755
