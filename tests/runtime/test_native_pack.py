"""Unpacking the libraries: once, whole, and never outside of their folder."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from llamafile_runtime.archive import Archive, open_archive
from llamafile_runtime.errors import ArchiveError, NativeError
from llamafile_runtime.native.library import find_libraries
from llamafile_runtime.native.pack import unpack_native

from .conftest import SMALL, write_archive

MEMBER = "native/linux-x64-cpu.tar.gz"


@pytest.fixture
def archive(small_file: Path) -> Archive:
    return open_archive(small_file)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of this test's own, for the fallback."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".so"}


WHOLE = {"libone.so": b"1" * 5000, "libtwo.so": b"2"}


def test_unpacks_once(archive: Archive, tmp_path: Path) -> None:
    folder = unpack_native(archive, MEMBER, tmp_path / "cache")
    assert folder == tmp_path / "cache" / "native" / archive.record(MEMBER).sha256[:16]
    assert files(folder) == WHOLE
    (folder / "libone.so").write_bytes(b"marked")
    assert unpack_native(archive, MEMBER, tmp_path / "cache") == folder
    assert (folder / "libone.so").read_bytes() == b"marked"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_mends_what_a_cleaner_has_taken(archive: Archive, tmp_path: Path) -> None:
    folder = unpack_native(archive, MEMBER, tmp_path)
    (folder / "libone.so").unlink()
    assert files(unpack_native(archive, MEMBER, tmp_path)) == WHOLE
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_two_at_once(archive: Archive, tmp_path: Path) -> None:
    results: list[Path] = []
    threads = [
        threading.Thread(target=lambda: results.append(unpack_native(archive, MEMBER, tmp_path)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len(set(results)) == 1
    assert files(results[0]) == WHOLE
    assert [path.name for path in results[0].parent.iterdir()] == [results[0].name]


def test_a_killed_start_leaves_nothing_for_long(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "native"
    old, young = root / ".0123.tmp.old", root / ".0123.tmp.young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    unpack_native(archive, MEMBER, tmp_path)
    assert not old.exists()
    assert young.exists()


def test_a_cache_that_is_no_folder_falls_back(
    archive: Archive, tmp_path: Path, temporary: Path
) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file")
    notes: list[str] = []
    folder = unpack_native(archive, MEMBER, cache, notes.append)
    assert folder.is_relative_to(temporary)
    assert files(folder) == WHOLE
    assert len(notes) == 1
    assert str(folder) in notes[0]
    assert str(cache) in notes[0]
    assert unpack_native(archive, MEMBER, cache, notes.append) == folder
    assert len(notes) == 1


def test_nowhere_to_unpack_is_one_sentence(
    archive: Archive, tmp_path: Path, temporary: Path
) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file")
    temporary.rmdir()
    temporary.write_text("a file too")
    with pytest.raises(NativeError, match="XDG_CACHE_HOME") as caught:
        unpack_native(archive, MEMBER, cache)
    assert str(cache) in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="needs Unix modes")
def test_libraries_that_others_may_change_are_not_taken(
    archive: Archive, tmp_path: Path, temporary: Path
) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file")
    root = unpack_native(archive, MEMBER, cache).parent.parent
    root.chmod(0o777)
    with pytest.raises(NativeError, match="another user"):
        unpack_native(archive, MEMBER, cache)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's ulimit -f")
def test_a_full_disk_is_one_sentence(
    small_file: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    big = b"".join(os.urandom(1 << 20) for _ in range(3))
    pack = io.BytesIO()
    with tarfile.open(fileobj=pack, mode="w:gz") as tar:
        info = tarfile.TarInfo("libbig.so")
        info.size = len(big)
        tar.addfile(info, io.BytesIO(big))
    path = write_archive(tmp_path / "big", {**SMALL, MEMBER: pack.getvalue()})
    code = (
        "import signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from llamafile_runtime.archive import open_archive\n"
        "from llamafile_runtime.native.pack import unpack_native\n"
        "from llamafile_runtime.errors import NativeError\n"
        "try: unpack_native(open_archive(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]))\n"
        "except NativeError as error: print(error)\n"
    )
    cache = tmp_path / "cache"
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", sys.executable, "-c", code,
         str(path), MEMBER, str(cache)],
        env={**environment, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "could not be unpacked" in done.stdout
    assert list((cache / "native").iterdir()) == []


def test_a_damaged_pack_is_named(small_file: Path, tmp_path: Path) -> None:
    offset = open_archive(small_file).record(MEMBER).offset
    data = bytearray(small_file.read_bytes())
    data[offset + 30] ^= 1
    small_file.write_bytes(data)
    with pytest.raises(ArchiveError, match=MEMBER):
        unpack_native(open_archive(small_file), MEMBER, tmp_path)
    assert list((tmp_path / "native").iterdir()) == []


def tar_of(*entries: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return buffer.getvalue()


def link(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return entry


@pytest.mark.parametrize(
    "pack",
    [
        tar_of(tarfile.TarInfo("../out.so")),
        tar_of(tarfile.TarInfo("/tmp/out.so")),
        tar_of(tarfile.TarInfo("sub/out.so")),
        tar_of(tarfile.TarInfo("..")),
        tar_of(link("out.so")),
        tar_of(tarfile.TarInfo("a\\b.so")),
        b"not gzip",
        gzip.compress(b"no tar" * 200),
        SMALL[MEMBER][:60],
    ],
    ids=["above", "absolute", "below", "parent", "link", "backslash", "raw", "no tar", "cut"],
)
def test_a_strange_pack_is_refused(pack: bytes, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "x", {**SMALL, MEMBER: pack})
    with pytest.raises(ArchiveError, match=MEMBER):
        unpack_native(open_archive(path), MEMBER, tmp_path / "cache")
    assert list((tmp_path / "cache" / "native").iterdir()) == []


@pytest.mark.parametrize(
    ("names", "llama"),
    [
        (["libllama.v0.4.0.so", "libggml.v0.4.0.so", "libggml-base.so", "libggml-cpu-x64.so"],
         "libllama.v0.4.0.so"),
        (["libllama.metal.v0.4.0.dylib", "libggml.metal.v0.4.0.dylib", "libggml-base.dylib",
          "libggml-metal.so", "libggml-blas.so"], "libllama.metal.v0.4.0.dylib"),
        (["llama.v0.4.0.dll", "ggml.v0.4.0.dll", "ggml-base.dll", "ggml-cpu-haswell.dll"],
         "llama.v0.4.0.dll"),
    ],
)  # fmt: skip
def test_libraries_are_found_in_the_order_of_loading(names: list[str], llama: str) -> None:
    found = find_libraries(names)
    assert list(found) == ["ggml-base", "ggml", "llama"]
    assert found["llama"] == llama
    assert "cpu" not in found["ggml"]


def test_a_missing_library_is_named() -> None:
    with pytest.raises(NativeError, match="no llama library"):
        find_libraries(["libggml.so", "libggml-base.so"])
