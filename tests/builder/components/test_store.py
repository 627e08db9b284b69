"""The cache of components against a registry with faults."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llamafile_build.components import Component, ComponentStore
from llamafile_build.components.fetch import FetchError
from llamafile_build.components.lock import blobs_of
from llamafile_build.components.store import StoreError
from llamafile_build.errors import BuilderError

MakeStore = Callable[..., ComponentStore]


def assert_whole(store: ComponentStore, sample: Any) -> None:
    if sample.component.mode == "file":
        assert store.path(sample.component).read_bytes() == sample.data
    for name, data in sample.members.items():
        assert store.read(sample.component, name) == data
    assert not store.missing([sample.component])


def left_over(tmp_path: Path) -> list[str]:
    partial = tmp_path / "store" / "partial"
    return [path.name for path in partial.iterdir() if path.suffix != ".lock"]


def test_fetches_once(registry: Any, make_store: MakeStore, sample: Any, tmp_path: Path) -> None:
    registry.files[sample.component.file] = sample.data
    store = make_store()
    assert store.missing([sample.component]) == [sample.component]
    store.ensure([sample.component])
    assert_whole(store, sample)
    asked = len(registry.requests)
    make_store().ensure([sample.component])
    assert len(registry.requests) == asked
    assert not left_over(tmp_path)


def test_offline_names_everything_and_asks_nobody(
    registry: Any, make_store: MakeStore, make_component: Callable[..., Component]
) -> None:
    components = [make_component(f"part{i}.bin", b"x" * i) for i in (1, 2)]
    with pytest.raises(StoreError, match=r"part1\.bin.*part2\.bin.*llamafile-build fetch"):
        make_store(offline=True).ensure(components)
    assert not registry.requests


def test_a_broken_connection_is_mended(
    registry: Any, make_store: MakeStore, sample: Any, tmp_path: Path
) -> None:
    registry.files[sample.component.file] = sample.data
    registry.cuts = [1_000]
    make_store().ensure([sample.component])
    assert_whole(make_store(), sample)
    assert not left_over(tmp_path)


def test_a_server_without_ranges_serves_too(
    registry: Any, make_store: MakeStore, sample: Any, tmp_path: Path
) -> None:
    registry.files[sample.component.file] = sample.data
    registry.ranges = False
    registry.cuts = [200_000]
    make_store().ensure([sample.component])
    assert_whole(make_store(), sample)
    assert not left_over(tmp_path)


def test_a_busy_registry_is_asked_again(registry: Any, make_store: MakeStore, sample: Any) -> None:
    registry.files[sample.component.file] = sample.data
    registry.statuses = [503, 502]
    make_store().ensure([sample.component])
    assert_whole(make_store(), sample)


def test_other_bytes_are_refused(
    registry: Any, make_store: MakeStore, sample: Any, other_sample: Any, tmp_path: Path
) -> None:
    """A registry that serves another file under the same name."""
    registry.files[sample.component.file] = other_sample.data
    with pytest.raises(FetchError, match=rf"{sample.component.file} is not what lock\.toml pins"):
        make_store().ensure([sample.component])
    assert make_store().missing([sample.component])
    assert not left_over(tmp_path)


def test_a_missing_member_is_refused(
    registry: Any,
    make_store: MakeStore,
    make_component: Callable[..., Component],
    make_zip: Callable[[dict[str, bytes]], bytes],
    pin: Callable[[str, bytes], Any],
) -> None:
    data = make_zip({"other": b"1"})
    registry.files["thing.whl"] = data
    wanted = make_component("thing.whl", data, mode="members", members=(pin("gone", b"2"),))
    with pytest.raises(FetchError, match=r"thing\.whl is not what lock\.toml pins"):
        make_store().ensure([wanted])


def test_a_file_that_is_gone(
    registry: Any, make_store: MakeStore, make_component: Callable[..., Component]
) -> None:
    with pytest.raises(BuilderError, match=r"Some\.Thing 1 .*does not list gone\.bin"):
        make_store().ensure([make_component("gone.bin", b"1")])
    with pytest.raises(BuilderError, match=r"gone\.tgz cannot be fetched: 404"):
        make_store().ensure([make_component("gone.tgz", b"1", registry="npm", name="@a/b")])


@pytest.mark.parametrize("sample", ["file"], indirect=True)
def test_an_interrupted_download_is_resumed(
    registry: Any, make_store: MakeStore, sample: Any, tmp_path: Path
) -> None:
    registry.files[sample.component.file] = sample.data
    partial = tmp_path / "store" / "partial" / sample.component.sha256
    partial.parent.mkdir(parents=True)
    partial.write_bytes(sample.data[:2_000_000])
    make_store().ensure([sample.component])
    assert_whole(make_store(), sample)
    ranges = [headers.get("range") for headers in registry.asked_for(sample.component.file)]
    assert ranges == ["bytes=2000000-"]


@pytest.mark.parametrize("sample", ["file", "wheel"], indirect=True)
@pytest.mark.parametrize("size", [1_000, 5_000_000])
def test_a_beginning_of_something_else_is_dropped(
    registry: Any, make_store: MakeStore, sample: Any, tmp_path: Path, size: int
) -> None:
    registry.files[sample.component.file] = sample.data
    partial = tmp_path / "store" / "partial" / sample.component.sha256
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"?" * size)
    registry.ranges = sample.component.mode == "file"
    make_store().ensure([sample.component])
    assert_whole(make_store(), sample)


def blob_paths(tmp_path: Path, component: Component) -> list[Path]:
    root = tmp_path / "store" / "blobs"
    return [root / blob.sha256[:2] / blob.sha256 for blob in blobs_of(component)]


def test_a_truncated_file_counts_as_missing(
    registry: Any, make_store: MakeStore, sample: Any, tmp_path: Path
) -> None:
    registry.files[sample.component.file] = sample.data
    make_store().ensure([sample.component])
    path = blob_paths(tmp_path, sample.component)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert make_store().missing([sample.component]) == [sample.component]
    make_store().ensure([sample.component])
    assert_whole(make_store(), sample)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_check_finds_damage_of_the_same_size(
    registry: Any, make_store: MakeStore, sample: Any, tmp_path: Path
) -> None:
    registry.files[sample.component.file] = sample.data
    store = make_store()
    store.ensure([sample.component])
    assert store.check([sample.component]) == []
    damage(blob_paths(tmp_path, sample.component)[-1])
    assert store.missing([sample.component]) == []
    assert store.check([sample.component]) == [sample.component]
    assert store.missing([sample.component]) == [sample.component]
    store.ensure([sample.component])
    assert_whole(store, sample)


def read_all(store: ComponentStore, component: Component) -> dict[str, bytes]:
    if component.mode == "file":
        return dict(store.contents(component))
    return {member.path: store.read(component, member.path) for member in component.members}


def test_damage_met_while_reading_is_mended(
    registry: Any,
    make_store: MakeStore,
    sample: Any,
    tmp_path: Path,
    make_component: Callable[..., Component],
    make_zip: Callable[[dict[str, bytes]], bytes],
) -> None:
    members = sample.members or {"a": b"1" * 1000}
    wanted, data = sample.component, sample.data
    if wanted.mode == "file":
        data = make_zip(members)
        wanted = make_component("whole.whl", data)
    registry.files[wanted.file] = data
    make_store().ensure([wanted])
    damage(blob_paths(tmp_path, wanted)[0])
    with pytest.raises(StoreError, match="--offline"):
        read_all(make_store(offline=True), wanted)
    assert read_all(make_store(), wanted) == members


def test_two_processes_fetch_once(
    registry: Any, make_store: MakeStore, sample: Any, tmp_path: Path
) -> None:
    registry.files[sample.component.file] = sample.data
    registry.delay = threading.Event()
    program = (
        "import sys\nfrom pathlib import Path\nfrom contextlib import nullcontext\n"
        "from llamafile_build.components import *\n"
        f"sample = {sample.component!r}\n"
        "ComponentStore(Path(sys.argv[1]), lambda *_: nullcontext(lambda _: None)).ensure([sample])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "store")]) for _ in range(2)
    ]
    while len(registry.asked_for(sample.component.file)) < 1:
        threading.Event().wait(0.02)
    registry.delay.set()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert_whole(make_store(), sample)
    starts = {headers.get("range") for headers in registry.asked_for(sample.component.file)}
    assert len(starts) == len(registry.asked_for(sample.component.file))


def test_one_failure_ends_the_other_downloads(
    registry: Any,
    make_store: MakeStore,
    make_component: Callable[..., Component],
    tmp_path: Path,
) -> None:
    data = bytes(6_000_000)
    slow = make_component("slow.bin", data)
    gone = make_component("gone.tgz", b"1", registry="npm", name="gone")
    registry.files["slow.bin"] = data
    registry.slow = "slow.bin"
    with pytest.raises(FetchError, match=r"gone\.tgz"):
        make_store().ensure([gone, slow])
    partial = tmp_path / "store" / "partial" / slow.sha256
    assert not partial.exists() or partial.stat().st_size < len(data)
    assert make_store().missing([slow]) == [slow]
    registry.slow = None
    make_store().ensure([slow])
    assert make_store().path(slow).read_bytes() == data


def test_progress_adds_up(registry: Any, make_store: MakeStore, sample: Any) -> None:
    registry.files[sample.component.file] = sample.data
    told: list[int] = []
    totals: list[int] = []

    @contextmanager
    def progress(_title: str, total: int) -> Iterator[Callable[[int], None]]:
        totals.append(total)
        yield told.append

    make_store(progress=progress).ensure([sample.component])
    assert sum(told) == totals[0]


@pytest.mark.parametrize("sample", ["wheel"], indirect=True)
def test_members_cost_little(registry: Any, make_store: MakeStore, sample: Any) -> None:
    """Members of a wheel are read alone."""
    registry.files[sample.component.file] = sample.data
    make_store().ensure([sample.component])
    spans = [h["range"].removeprefix("bytes=") for h in registry.asked_for(".whl")]
    first, last = zip(*(span.split("-") for span in spans if not span.startswith("-")), strict=True)
    fetched = sum(int(end) - int(start) + 1 for start, end in zip(first, last, strict=True))
    assert fetched < sum(member.size for member in sample.component.members) + 10_000
