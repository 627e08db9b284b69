"""The packs that a build on this machine puts into a file, and their unpacked folders."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llamafile_build.console import Console
from llamafile_build.pack.packfile import PackFile
from llamafile_build.parts import gather_parts
from llamafile_runtime.format.targets import TARGETS


@pytest.fixture(scope="session")
def packs() -> dict[str, PackFile]:
    """All packs by their member names, made or found in the user's cache."""
    parts = gather_parts(list(TARGETS.values()), Console(quiet=True), offline=False)
    return {pack.member: pack for pack in (*parts.runtime_packs, *parts.native_packs)}


@pytest.fixture(scope="session")
def unpack(
    packs: dict[str, PackFile], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Unpack a pack, once a run: member name to folder."""
    folders: dict[str, Path] = {}

    def unpack(member: str) -> Path:
        if member not in folders:
            folders[member] = tmp_path_factory.mktemp(member.split("/")[1].split(".")[0])
            with tarfile.open(packs[member].path) as archive:
                archive.extractall(folders[member], filter="data")
        return folders[member]

    return unpack
