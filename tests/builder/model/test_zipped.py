"""Models inside ZIP archives, made by other programs."""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import provision
import pytest

from llamafile_build.console import Console
from llamafile_build.errors import InputError
from llamafile_build.model.source import ModelInput, open_model

METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
}


def opened(path: Path) -> ModelInput:
    return open_model(str(path), Console(quiet=True))


def digest(model: ModelInput) -> str:
    sha256 = hashlib.sha256()
    reader = model.open()
    buffer = memoryview(bytearray(1 << 20))
    while count := reader.readinto(buffer):
        sha256.update(buffer[:count])
    reader.close()
    return sha256.hexdigest()


@pytest.mark.parametrize("method", METHODS)
def test_plain_methods_need_no_extra(tmp_path: Path, smollm2: Path, method: str) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", METHODS[method]) as archive:
        archive.writestr("readme.txt", "hello")
        archive.write(smollm2, "some folder/Smol LM.gguf")
    model = opened(path)
    assert model.name == "Smol LM.gguf"
    assert model.size == smollm2.stat().st_size
    assert model.header.architecture == "llama"
    assert digest(model) == hashlib.sha256(smollm2.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def deflate64_zip(
    smollm2: Path, tmp_path_factory: pytest.TempPathFactory, debian_tools: Callable[..., None]
) -> Path:
    """An archive as Windows Explorer makes them of large files; 7-Zip knows the method too."""
    debian_tools("7z")
    path = tmp_path_factory.mktemp("deflate64") / "model.zip"
    command = ["7z", "a", "-tzip", "-mm=Deflate64", "-mx=1", str(path), str(smollm2)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def test_deflate64_without_its_extra_names_the_extra(deflate64_zip: Path) -> None:
    # A folder without site-packages: the import of the extra must fail whatever is installed.
    code = (
        "import sys; sys.modules['zipfile_deflate64'] = None\n"
        "from llamafile_build.cli import main\n"
        f"sys.argv = ['x', '--model', {str(deflate64_zip)!r}]\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "llamafile-build[deflate64]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="session")
def deflate64_extra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extra, compiled into a folder of its own, so that the other tests run without it."""
    provision.require("cc")
    folder = tmp_path_factory.mktemp("extra")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder)]
    done = subprocess.run(
        [*pip, "zipfile-deflate64>=0.2"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        provision.unavailable(f"zipfile-deflate64 cannot be compiled: {done.stderr[-300:]}")
    return folder


def test_deflate64_with_its_extra(
    deflate64_zip: Path, deflate64_extra: Path, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(deflate64_extra)
    model = opened(deflate64_zip)
    assert model.size == smollm2.stat().st_size
    assert digest(model) == hashlib.sha256(smollm2.read_bytes()).hexdigest()


def test_archives_that_cannot_serve(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "no model")
    with pytest.raises(InputError, match=r"holds no \.gguf"):
        opened(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.gguf", "GGUF")
        archive.writestr("b.gguf", "GGUF")
    with pytest.raises(InputError, match=r"2 \.gguf files \(a\.gguf, b\.gguf"):
        opened(path)


def test_damaged_member_is_noticed_while_building(tmp_path: Path, smollm2: Path) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(smollm2, "m.gguf")
    with path.open("r+b") as file:
        file.seek(60_000_000)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    command = [sys.executable, "-m", "llamafile_build", "--model", str(path)]
    done = subprocess.run(
        [*command, "--target", "linux-x64", "-o", "x"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("llamafile-build: error: ")
    assert "m.gguf" in done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["model.zip"]
