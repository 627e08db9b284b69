"""What the end-to-end tests share: the question, and a server started from a built file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# One thread: ggml's threads spin while they wait for each other, so that two of them crawl as soon
# as another process wants one of two cores.
ONE_THREAD = ("-t", "1")
QUESTION = "<|im_start|>user\\nWhat is the capital of France?<|im_end|>\\n<|im_start|>assistant\\n"
# The one in the model's chat template makes this small model talk in loops.
SYSTEM_PROMPT = "You are a helpful assistant."


@dataclass(frozen=True)
class Server:
    """A built file that serves."""

    process: subprocess.Popen[str]
    url: str


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of this run's own: its first start unpacks."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def environment(cache: Path) -> dict[str, str]:
    """The environment for built files."""
    return {**os.environ, "XDG_CACHE_HOME": str(cache)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_healthy(url: str, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if json.load(answer)["status"] == "ok":
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"{url} did not become healthy")


@pytest.fixture
def serve(environment: dict[str, str]) -> Iterator[Callable[..., Server]]:
    """Starts a file's server on a free port; stops it at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(file: Path, *options: str) -> Server:
        port = free_port()
        process = subprocess.Popen(
            ["sh", str(file), "--no-browser", "--port", str(port), *ONE_THREAD, *options],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        url = f"http://127.0.0.1:{port}"
        wait_healthy(url, process)
        return Server(process, url)

    yield start
    for process in started:
        process.terminate()
        process.wait(30)
