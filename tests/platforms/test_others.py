"""The built file on the other systems that can be run here: arm64 by qemu, Windows by Wine."""

import os
import subprocess
import urllib.request
from pathlib import Path

import pytest
from openai import OpenAI
from provision import wine_caches

from .conftest import ONE_THREAD, QUESTION, SYSTEM_PROMPT, free_port, wait_healthy

pytestmark = pytest.mark.e2e


@pytest.mark.arm64
def test_linux_arm64_answers(built_file: Path, arm64_root: Path, tmp_path: Path) -> None:
    """The launcher's shell, uname, tar, gzip and the runtime: all of them arm64 programs."""
    (tmp_path / "home").mkdir()
    command = ["proot", "-q", "qemu-aarch64", "-r", str(arm64_root), "-w", "/tmp"]
    for folder in (built_file.parent, tmp_path):
        command += ["-b", str(folder)]
    done = subprocess.run(
        [*command, "/bin/sh", str(built_file), "-p", QUESTION, "--temp", "0", *ONE_THREAD],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert "Paris" in done.stdout, done.stderr
    unpacked = list((tmp_path / "home/.cache/llamafile-build/native").glob("*/libggml-cpu-armv8*"))
    assert unpacked


@pytest.fixture(scope="session")
def windows_file(built_file: Path) -> Path:
    """The same bytes under the name that Windows needs."""
    path = built_file.with_name(built_file.name + ".exe")
    if not path.exists():
        os.link(built_file, path)
    return path


def run_wine(
    file: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    # Through pipes: with a plain file as stdout, CPython does not start under Wine 8.
    return subprocess.run(
        ["wine", str(file), *arguments], env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


@pytest.mark.wine
def test_windows_answers(windows_file: Path, wine: dict[str, str]) -> None:
    done = run_wine(windows_file, wine, "-p", QUESTION, "--temp", "0", *ONE_THREAD)
    assert "Paris" in done.stdout, done.stderr
    assert "started by Wine" in done.stderr
    unpacked = wine_caches(Path(wine["WINEPREFIX"]))
    assert [path for cache in unpacked for path in cache.rglob("native/*/ggml-cpu-*.dll")]


@pytest.mark.wine
def test_windows_serves(windows_file: Path, wine: dict[str, str]) -> None:
    port = free_port()
    command = ["wine", str(windows_file), "--no-browser", "--port", str(port), *ONE_THREAD]
    process = subprocess.Popen(
        command, env=wine, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_healthy(url, process)
        client = OpenAI(base_url=f"{url}/v1", api_key="none")
        stream = client.chat.completions.create(
            model=client.models.list().data[0].id, stream=True, temperature=0, max_tokens=60,
            messages=[
                {"role": "system", "content": SYSTEM_PROMPT},
                {"role": "user", "content": "What is the capital of France?"},
            ],
        )  # fmt: skip
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "Paris" in "".join(pieces)
        with urllib.request.urlopen(url) as page:
            assert b"<!doctype html>" in page.read().lower()
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.wine
def test_windows_info_and_exit_codes(windows_file: Path, wine: dict[str, str]) -> None:
    done = run_wine(windows_file, wine, "--version")
    assert (done.returncode, "llamafile-build" in done.stdout) == (0, True)
    done = run_wine(windows_file, wine, "--no-such-option")
    assert done.returncode == 2
    assert "--no-such-option" in done.stderr
