"""Threads and memory: what the machine says, with made-up control groups and topologies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llamafile_runtime.native import host

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's files")


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own = tmp_path / "slice" / "scope"
    own.mkdir(parents=True)
    monkeypatch.setattr(host, "_CGROUP", tmp_path)
    monkeypatch.setattr(host, "_cgroup_folders", lambda: [own, own.parent, tmp_path])
    return own


def topology(folder: Path, siblings: list[str]) -> None:
    for cpu, text in enumerate(siblings):
        path = folder / f"cpu{cpu}" / "topology"
        path.mkdir(parents=True)
        (path / "thread_siblings_list").write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("siblings", "allowed", "quota", "threads"),
    [
        (["0,2", "1,3", "0,2", "1,3"], {0, 1, 2, 3}, None, 2),
        (["0,2", "1,3", "0,2", "1,3"], {0, 2}, None, 1),
        (["0", "1", "2", "3"], {0, 1, 2, 3}, "max 100000", 4),
        (["0", "1", "2", "3"], {0, 1, 2, 3}, "250000 100000", 2),
        (["0", "1", "2", "3"], {0, 1, 2, 3}, "50000 100000", 1),
        ([], {0, 1, 2}, None, 3),
    ],
)
def test_threads_are_physical_cores_that_may_be_used(
    siblings: list[str],
    allowed: set[int],
    quota: str | None,
    threads: int,
    tmp_path: Path,
    cgroup: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topology(tmp_path / "cpu", siblings)
    monkeypatch.setattr(host, "_CPU", tmp_path / "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: allowed)
    if quota:
        (cgroup.parent / "cpu.max").write_text(quota)
    assert host.default_threads() == threads


def test_memory_is_what_the_control_group_leaves(cgroup: Path) -> None:
    free = host.available_memory()
    assert free
    (cgroup / "memory.max").write_text("1000000")
    (cgroup / "memory.current").write_text("400000")
    assert host.available_memory() == 600_000


def test_this_machine_has_memory_and_cores() -> None:
    assert (host.available_memory() or 0) > 1 << 26
    assert 1 <= host.default_threads() <= (os.cpu_count() or 1)
