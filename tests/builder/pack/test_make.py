"""Making packs: the same bytes from the same parts, kept under a key of everything in them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llamafile_build.components import ComponentStore, Lock
from llamafile_build.console import Console
from llamafile_build.pack.library import Source
from llamafile_build.pack.make import make_native_pack, make_runtime_pack
from llamafile_build.pack.packfile import PackFile
from llamafile_build.parts import open_store
from llamafile_runtime.format.targets import TARGETS

OWN = [Source("llamafile_runtime/__init__.py", b""), Source("llamafile_runtime/a.txt", b"1")]


@pytest.fixture(scope="module")
def parts() -> tuple[Lock, ComponentStore]:
    lock, store = open_store(Console(quiet=True), offline=False)
    store.ensure([c for c in lock.components if c.purpose != "model"])
    return lock, store


@pytest.fixture
def make(parts: tuple[Lock, ComponentStore]) -> Callable[..., PackFile]:
    """make(cache, target, own sources): the target's runtime pack."""

    def make(cache: Path, target: str, own: list[Source] = OWN) -> PackFile:
        return make_runtime_pack(TARGETS[target], *parts, cache, own)

    return make


@pytest.mark.parametrize("target", ["linux-arm64", "windows-x64"])
def test_runtime_packs_are_reproducible(
    target: str, make: Callable[..., PackFile], tmp_path: Path
) -> None:
    one = make(tmp_path / "one", target)
    two = make(tmp_path / "two", target, OWN[::-1])
    assert one.sha256 == two.sha256
    assert one.path.read_bytes() == two.path.read_bytes()


def test_native_packs_are_reproducible(parts: tuple[Lock, ComponentStore], tmp_path: Path) -> None:
    one, two = (
        make_native_pack(TARGETS["macos-arm64"], *parts, tmp_path / name) for name in ("1", "2")
    )
    assert one.path.read_bytes() == two.path.read_bytes()


def test_both_macos_targets_share_a_runtime(make: Callable[..., PackFile], tmp_path: Path) -> None:
    assert make(tmp_path, "macos-arm64").path == make(tmp_path, "macos-x64").path


def test_changed_sources_make_another_pack(make: Callable[..., PackFile], tmp_path: Path) -> None:
    one = make(tmp_path, "linux-x64")
    two = make(tmp_path, "linux-x64", [OWN[0], Source("llamafile_runtime/a.txt", b"2")])
    assert one.path != two.path
    assert one.sha256 != two.sha256


def test_packs_out_of_use_are_removed(make: Callable[..., PackFile], tmp_path: Path) -> None:
    old, recent = (make(tmp_path, "linux-x64", OWN[:count]) for count in (1, 2))
    month_ago = time.time() - 30 * 24 * 3600
    for pack in (old, recent):
        os.utime(pack.path, (month_ago, month_ago))
    make(tmp_path, "linux-x64", OWN)  # used again
    new = make(tmp_path, "linux-x64", [OWN[0], Source("llamafile_runtime/b.txt", b"")])
    assert not old.path.exists()
    assert recent.path.exists()
    assert new.path.exists()


def test_damaged_components_do_not_get_into_packs(
    parts: tuple[Lock, ComponentStore], tmp_path: Path
) -> None:
    lock, store = parts
    component = lock.component("llama-cpp-macos-arm64")
    blob = store.path(component)
    good = blob.read_bytes()
    private = ComponentStore(tmp_path / "components", Console(quiet=True).progress)
    copy = private.path(component)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(good[:-1000] + bytes(1000))
    target = TARGETS["macos-arm64"]
    mended = make_native_pack(target, lock, private, tmp_path / "1")
    assert mended.sha256 == make_native_pack(target, lock, store, tmp_path / "2").sha256
    assert copy.read_bytes() == good
