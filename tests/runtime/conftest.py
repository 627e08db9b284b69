"""Small built files, made by Python's own zipfile: an oracle that knows nothing of the builder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamafile_build.console import Console
from llamafile_build.pack.library import component_sources
from llamafile_build.pack.make import make_native_pack
from llamafile_build.parts import cache_root, open_store
from llamafile_runtime.format.targets import TARGETS
from llamafile_runtime.locate import host_target

HEAD_SIZE = 0x10000
EPOCH = (1980, 1, 1, 0, 0, 0)


def native_pack(files: dict[str, bytes]) -> bytes:
    """A tar.gz as docs/format.md asks for: flat, sorted, regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o755, 315532800
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_archive(
    path: Path,
    members: dict[str, bytes],
    *,
    config: dict[str, Any] | None = None,
    manifest: dict[str, Any] | None = None,
    boot_table: str = "",
) -> Path:
    """Write a file with the given members, config.json and a manifest that is true of them."""
    head = f"#!/bin/sh\n# a launcher\n{boot_table}".encode().ljust(HEAD_SIZE, b"\n")
    members = {**members, "config.json": json.dumps(config or {}).encode()}
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as out, zipfile.ZipFile(out, "w") as archive:
        out.write(head)
        records = []
        for name, data in sorted(members.items(), key=lambda item: item[0].startswith("model/")):
            records.append(_add(out, archive, name, data))
        model = next((name for name in members if name.startswith("model/")), "model/none.gguf")
        document = {
            "format_version": 1,
            "name": "Test",
            "description": None,
            "builder_version": "0",
            "python_version": "3.11",
            "llama_cpp_version": "v0",
            "targets": ["linux-x64"],
            "head": {"size": HEAD_SIZE, "sha256": hashlib.sha256(head).hexdigest()},
            "model": {
                "member": model, "name": "Test", "architecture": "llama", "parameters": 1,
                "quantization": "F32", "context_length": 1, "license": None, "source": None,
            },
            "members": records,
            "components": [],
            **(manifest or {}),
        }  # fmt: skip
        _add(out, archive, "manifest.json", json.dumps(document).encode())
    return path


class _Utf8Info(zipfile.ZipInfo):
    """zipfile sets the UTF-8 flag only where a name needs it; the format wants it everywhere."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode(), self.flag_bits | 0x800


def _add(out: Any, archive: zipfile.ZipFile, name: str, data: bytes) -> dict[str, Any]:
    alignment = 65536 if name.startswith("model/") else 4096 if name.endswith(".tar.gz") else 1
    start = out.tell()
    header = 30 + len(name.encode())
    offset = -(-(start + header) // alignment) * alignment
    out.write(bytes(offset - header - start))
    archive.start_dir = offset - header  # where zipfile puts the next member
    info = _Utf8Info(name, EPOCH)
    info.external_attr, info.create_version, info.extract_version = 0o100644 << 16, 10, 10
    info.create_system = 3
    archive.writestr(info, data)
    return {
        "name": name, "size": len(data), "offset": offset,
        "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip


SMALL = {
    "native/linux-x64-cpu.tar.gz": native_pack({"libone.so": b"1" * 5000, "libtwo.so": b"2"}),
    "licenses/one.txt": b"A licence.",
    "model/m.gguf": b"GGUF" + bytes(3000),
}


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """A built file of a few pages; its model is no model."""
    return write_archive(tmp_path / "small.llamafile", SMALL)


@pytest.fixture(scope="session")
def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which the pinned ``llama_cpp`` can be imported."""
    lock, store = open_store(Console(quiet=True), offline=False)
    component = lock.component("llama-cpp-python")
    store.ensure([component])
    folder = tmp_path_factory.mktemp("bindings")
    for source in component_sources(component, store):
        path = folder / source.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.data)
    return folder


@pytest.fixture(scope="session")
def host_native_pack() -> bytes:
    """The native pack of this machine, as the builder makes it."""
    lock, store = open_store(Console(quiet=True), offline=False)
    target = TARGETS[host_target().name]
    store.ensure(lock.select([target.name], f"{sys.version_info[0]}.{sys.version_info[1]}"))
    pack = make_native_pack(target, lock, store, cache_root() / "packs")
    return pack.path.read_bytes()


@pytest.fixture(scope="session")
def file(smollm2: Path, host_native_pack: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 and this machine's libraries in one file."""
    target = host_target()
    return write_archive(
        tmp_path_factory.mktemp("file") / "smol lm2 ü.llamafile",
        {target.native_member: host_native_pack, "model/smollm2.gguf": smollm2.read_bytes()},
        config={"server": {"context": 1024, "threads": 1}, "sampling": {"temperature": 0}},
        manifest={"targets": [target.name]},
    )


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def environment(llama_cpp: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which this Python runs files, with a cache of its own."""
    path = os.pathsep.join([str(llama_cpp), *filter(None, sys.path)])
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(cache)}


@pytest.fixture(scope="session")
def run(environment: dict[str, str]) -> Run:
    """Runs a file with this Python: ``run(path, *arguments, **options of subprocess.run)``."""

    def start(path: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llamafile_runtime", "--archive", str(path)]
        return subprocess.run(
            [*command, *arguments],
            **{
                "env": environment, "capture_output": True, "encoding": "utf-8", "check": False,
                "stdin": subprocess.DEVNULL, **options,
            },
        )  # fmt: skip

    return start
