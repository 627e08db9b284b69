"""Files over 4 GiB: ZIP64, and the small Windows launcher beside the archive."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import provision
import pytest
from gguf import GGUFWriter

from .conftest import ONE_THREAD

pytestmark = pytest.mark.e2e

FOUR_GIB = 1 << 32


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A built file around a sparse model of more than 4 GiB."""
    folder = tmp_path_factory.mktemp("large")
    if shutil.disk_usage(folder).free < 12 << 30:
        provision.unavailable("12 GiB of free disk")
    path = folder / "large.gguf"
    write_large(path)
    out = folder / "large.llamafile"
    command = [sys.executable, "-m", "llamafile_build", "--model", str(path), "-o", str(out)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path.unlink()
    result = json.loads(done.stdout)
    assert Path(result["windows_launcher"]) == out.with_suffix(".exe")
    yield out
    out.unlink()


def write_large(path: Path) -> None:
    """A sparse GGUF whose only tensor has more than 4 GiB; nothing can load it, all can pack it."""
    rows = (FOUR_GIB + (64 << 20)) // 4 // 4096
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_tensor_info("token_embd.weight", [rows, 4096], np.dtype(np.float32), rows * 4096 * 4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header = path.stat().st_size
    os.truncate(path, -(-header // 32) * 32 + rows * 4096 * 4)


def test_zip_tools_read_it(large: Path) -> None:
    assert large.stat().st_size > FOUR_GIB
    with zipfile.ZipFile(large) as archive:
        assert archive.getinfo("model/large.gguf").file_size > FOUR_GIB
        assert json.loads(archive.read("manifest.json"))["targets"][-1] == "windows-x64"
    provision.require("unzip", "7z")
    listing = subprocess.run(
        ["unzip", "-l", str(large)], capture_output=True, text=True, check=True
    )
    assert "model/large.gguf" in listing.stdout
    subprocess.run(["7z", "l", str(large)], stdout=subprocess.DEVNULL, check=True)


def test_it_starts_here(large: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", str(large), "info"], env=environment, capture_output=True, text=True, check=True
    )
    assert "large" in done.stdout
    done = subprocess.run(
        ["sh", str(large), "-p", "x", *ONE_THREAD],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # It holds no model that could answer: the engine says so, in one line.
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.wine
def test_windows_starts_it_by_the_launcher_beside_it(large: Path, wine: dict[str, str]) -> None:
    launcher = large.with_suffix(".exe")
    assert launcher.stat().st_size < 1 << 20
    done = subprocess.run(
        ["wine", str(launcher), "info"], env=wine, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "large" in done.stdout


def test_an_exe_over_4_gib_is_refused(tmp_path: Path) -> None:
    write_large(tmp_path / "m.gguf")
    done = subprocess.run(
        [sys.executable, "-m", "llamafile_build", "--model", "m.gguf", "-o", "m.exe"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no .exe over 4 GiB" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
