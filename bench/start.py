"""Start-up of a built file beside llama-server of the same llama.cpp release.

    python bench/start.py [--rounds 15]

Times run from the start of the process to the first `/health` that says ok, and to the first
token of a chat that is asked for at once after that. Model and programs lie in the page cache. The
peer is built by bench/peer.py if need be, which takes minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from measure import Row, in_turns, print_machine, print_table
from peer import llama_server

CHAT = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "stream": True,
    "temperature": 0,
    "max_tokens": 4,
}
# Both take all of the model's context by default; this is the smaller one of chats.
SMALL = ("-c", "2048")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="runs of each [default: 15]")
    options = parser.parse_args()
    print_machine()
    server = llama_server()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, model = build(folder)
        compare(file, model, server, folder, options.rounds)


def build(folder: Path) -> tuple[Path, Path]:
    """The default model's file for all targets, and the model itself."""
    file = folder / "model.llamafile"
    command = [sys.executable, "-m", "llamafile_build", "--quiet", "-o", str(file)]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return file, Path(archive.extract(name, folder))


def compare(file: Path, model: Path, server: Path, folder: Path, rounds: int) -> None:
    """Measure all ways of starting and print their tables."""
    cache = folder / "cache"

    def ours(*options: str) -> tuple[str, ...]:
        return ("sh", str(file), "--no-browser", *options)

    def theirs(*options: str) -> tuple[str, ...]:
        return (str(server), "-m", str(model), *options)

    commands = {
        "warm": ours(),
        "warm small": ours(*SMALL),
        "peer": theirs(),
        "peer small": theirs(*SMALL, "-np", "1"),
        "peer cold-blooded": theirs(*SMALL, "-np", "1", "--no-warmup"),
    }
    tokens: dict[str, list[float]] = {name: [] for name in (*commands, "first")}

    def way(name: str, command: Sequence[str], *, unpacks: bool = False) -> Callable[[], float]:
        def once() -> float:
            if unpacks:
                shutil.rmtree(cache, ignore_errors=True)
            healthy, token = start(command, cache)
            tokens[name].append(token)
            return healthy

        return once

    # The first round is not counted: there the built file unpacks.
    warm = {name: way(name, command) for name, command in commands.items()}
    times = in_turns(warm, rounds)
    times |= in_turns({"first": way("first", commands["warm"], unpacks=True)}, rounds)
    tokens = {name: values[1:] for name, values in tokens.items()}
    for title, values in (("Start to `/health` ok", times), ("Start to first token", tokens)):
        print_table(title, "ms", rows(values))


def rows(seconds: dict[str, list[float]]) -> list[Row]:
    """The table's rows, in milliseconds."""
    ms = {name: [1000 * value for value in values] for name, values in seconds.items()}
    return [
        Row("built file, peer llama-server", ms["warm"], ms["peer"]),
        Row("built file `-c 2048`, peer `-c 2048 -np 1`", ms["warm small"], ms["peer small"]),
        Row(
            "built file `-c 2048`, peer `-c 2048 -np 1 --no-warmup`",
            ms["warm small"], ms["peer cold-blooded"],
        ),
        Row("built file's first start, peer its own warm start", ms["first"], ms["warm"]),
        Row("llama-server", ms["peer"]),
        Row("llama-server `-c 2048 -np 1`", ms["peer small"]),
        Row("llama-server `-c 2048 -np 1 --no-warmup`", ms["peer cold-blooded"]),
    ]  # fmt: skip


def start(command: Sequence[str], cache: Path) -> tuple[float, float]:
    """Seconds from the start to a healthy server, and to the first token of a chat."""
    port = free_port()
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--port", str(port)], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_healthy(port, process)
        healthy = time.perf_counter() - started
        first_token(port)
        return healthy, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_healthy(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError, http.client.HTTPException), connection(port) as http_:
            http_.request("GET", "/health")
            if http_.getresponse().status == http.client.OK:
                return
        time.sleep(0.002)
    raise SystemExit(f"{process.args!r} did not become healthy")


def first_token(port: int) -> None:
    """Ask for a chat and wait for the first piece of text."""
    with connection(port) as http_:
        body = json.dumps(CHAT)
        http_.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = http_.getresponse()
        for line in answer:
            if line.startswith(b"data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                if delta.get("content"):
                    return
    raise SystemExit("no token came")


@contextlib.contextmanager
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    http_ = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        yield http_
    finally:
        http_.close()


if __name__ == "__main__":
    main()
