"""The builder's command line: bad input gets one line and an exit code, and leaves nothing."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from provision import unavailable

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the builder in an empty folder."""
    work = tmp_path / "work"
    work.mkdir()

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "llamafile_build", *arguments],
            cwd=work, capture_output=True, text=True, check=False,
            env={**os.environ, **environment},
        )  # fmt: skip

    return call


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("llamafile-build: error: ")
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stderr


def nothing_written(folder: Path, *inputs: str) -> None:
    assert sorted(path.name for path in (folder / "work").iterdir()) == sorted(inputs)


BAD_MODELS: dict[str, tuple[bytes, str]] = {
    "empty.gguf": (b"", "is empty"),
    "text.gguf": (b"hello world, this is no model", "is not a GGUF model"),
    "pointer.gguf": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "page.gguf": (b"<!DOCTYPE html><html>", "web page"),
    "old.gguf": (b"ggjt\3\0\0\0", "old GGML model"),
    "weights.safetensors": (struct.pack("<Q", 90) + b'{"a":{}}', "safetensors"),
    "weights.bin": (b"\x80\x02}q\x00.", "pickle"),
    "big-endian.gguf": (b"GGUF\0\0\0\3" + bytes(16), "big-endian"),
    "v1.gguf": (b"GGUF\1\0\0\0" + bytes(16), "version 1"),
    "future.gguf": (b"GGUF\x63\0\0\0" + bytes(16), "version 99"),
    "counts.gguf": (b"GGUF\3\0\0\0" + b"\xff" * 16, "no room"),
    "not-a.zip": (b"PK\3\4 broken", "is not a GGUF model"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_what_is_no_model(run: Run, tmp_path: Path, name: str) -> None:
    data, words = BAD_MODELS[name]
    (tmp_path / "work" / name).write_bytes(data)
    refused(run("--model", name, "-o", "x.llamafile"), 1, name, words)
    nothing_written(tmp_path, name)


def test_truncated_model(run: Run, tmp_path: Path, smollm2: Path) -> None:
    cut = tmp_path / "work" / "cut.gguf"
    with smollm2.open("rb") as whole:
        cut.write_bytes(whole.read(50_000_000))
    refused(run("--model", "cut.gguf", "-o", "x.llamafile"), 1, "cut off", "bytes are missing")
    nothing_written(tmp_path, "cut.gguf")


def test_unknown_architecture(run: Run, tmp_path: Path, smollm2: Path) -> None:
    data = smollm2.read_bytes().replace(
        b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
        b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0lemma", 1,
    )  # fmt: skip
    (tmp_path / "work" / "new.gguf").write_bytes(data)
    refused(run("--model", "new.gguf"), 1, "does not know the architecture 'lemma'")
    nothing_written(tmp_path, "new.gguf")


def test_folders(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "hf"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    refused(run("--model", "hf"), 1, "Hugging Face", "convert it to GGUF")


def test_usage_errors(run: Run, tmp_path: Path, smollm2: Path) -> None:
    model = ("--model", str(smollm2))
    refused(run("--model", "missing.gguf"), 2, "there is no model missing.gguf", "smollm2")
    refused(run(*model, "--target", "linux-x64,beos-ppc"), 2, "beos-ppc", "linux-arm64")
    refused(run(*model, "-o", "no/such/x.llamafile"), 2, "no/such")
    refused(run(*model, "--top-p", "7"), 2, "top_p")
    refused(run(*model, "--system-prompt", "@missing.txt"), 2, "missing.txt")
    refused(run(*model, "--chat-template", "{% if %}"), 2, "chat template")
    assert run("--frobnicate").returncode == 2
    (tmp_path / "work" / "x.llamafile").write_bytes(b"precious")
    refused(run(*model, "-o", "x.llamafile"), 2, "x.llamafile exists", "--force")
    assert (tmp_path / "work" / "x.llamafile").read_bytes() == b"precious"
    nothing_written(tmp_path, "x.llamafile")


def test_output_on_the_input(run: Run, tmp_path: Path, smollm2: Path) -> None:
    os.link(smollm2, tmp_path / "work" / "m.gguf")
    size = smollm2.stat().st_size
    refused(run("--model", "m.gguf", "-o", "m.gguf", "--force"), 2, "is the model itself")
    assert smollm2.stat().st_size == size


def test_config_file_errors_name_the_field(run: Run, tmp_path: Path, smollm2: Path) -> None:
    config = tmp_path / "work" / "c.toml"
    for text, word in [
        ("[sampling]\ntemprature = 1", "temprature"),
        ("[server]\nport = 'x'", "port"),
        ("system_prompt = 3", "system_prompt"),
        ("a = = 3", "TOML"),
    ]:
        config.write_text(text)
        refused(run("--model", str(smollm2), "--config", "c.toml"), 2, "c.toml", word)


def test_no_room_is_said_before_writing(run: Run, tmp_path: Path, smollm2: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        unavailable("tmpfs cannot be mounted here")
    try:
        refused(run("--model", str(smollm2), "-o", str(small / "x")), 1, "free", "needs")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_interrupted_build_leaves_nothing(tmp_path: Path, smollm2: Path) -> None:
    build = subprocess.Popen(
        [sys.executable, "-m", "llamafile_build", "--model", str(smollm2), "-o", "x.llamafile"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while build.poll() is None and not list(tmp_path.glob(".x.llamafile.*.part")):
        pass
    build.send_signal(2)
    _, errors = build.communicate()
    assert build.returncode == 130, errors
    assert "interrupted" in errors
    assert list(tmp_path.iterdir()) == []


def test_offline_names_what_is_missing(run: Run, tmp_path: Path, smollm2: Path) -> None:
    done = run("--model", str(smollm2), "--offline", XDG_CACHE_HOME=str(tmp_path / "empty"))
    refused(done, 1, "linux-x64-3.21.1.tgz", "llamafile-build fetch")
    nothing_written(tmp_path)


def test_result_as_json_and_packed_defaults(run: Run, tmp_path: Path, smollm2: Path) -> None:
    config = tmp_path / "work" / "c.toml"
    config.write_text('system_prompt = "Be brief."\n[sampling]\ntemperature = 0.2\nseed = 7\n')
    done = run(
        "--model", str(smollm2), "-o", "x.llamafile", "--target", "linux-x64", "--json",
        "--config", "c.toml", "--temp", "0.5", "--port", "9000", "--name", "Test",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["targets"] == ["linux-x64"]
    with zipfile.ZipFile(tmp_path / "work" / "x.llamafile") as archive:
        assert json.loads(archive.read("config.json")) == {
            "system_prompt": "Be brief.",
            "sampling": {"temperature": 0.5, "seed": 7},
            "server": {"port": 9000},
        }
        manifest = json.loads(archive.read("manifest.json"))
        names = archive.namelist()
    assert manifest["name"] == "Test"
    assert [name for name in names if name.startswith("runtime/")] == ["runtime/linux-x64.tar.gz"]
    assert result["size"] == (tmp_path / "work" / "x.llamafile").stat().st_size
