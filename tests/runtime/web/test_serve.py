"""Whole processes: starting, being found by a second start, ending."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("scripted_server.py")
WAIT = 60

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts scripted_server.py with options; ``env`` adds to a display-less environment."""
    processes = []
    base = {
        k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    }

    def run(env: dict[str, str] | None = None, **options: Any) -> "subprocess.Popen[str]":
        options = {"port": 0, "state_file": str(tmp_path / "run" / "key.json"), **options}
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(options)],
            env={**base, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    line = process.stdout.readline()
    found = re.search(r"http://\S+/", line)
    assert found, line
    return found[0]


def health(url: str) -> Any:
    with urllib.request.urlopen(f"{url}health", timeout=WAIT) as answer:
        return json.load(answer)


def state_of(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "run" / "key.json").read_text())


def end(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(WAIT)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_start_and_its_end(start: Start, tmp_path: Path, number: int, code: int) -> None:
    process = start()
    url = url_of(process)
    assert health(url)["status"] == "ok"
    state = state_of(tmp_path)
    assert state["pid"] == process.pid
    assert state["token"] == health(url)["instance"]
    assert end(process, number) == code
    assert not (tmp_path / "run" / "key.json").exists()
    assert process.stderr
    assert process.stderr.read() == ""


def test_an_end_in_the_middle_of_an_answer(start: Start) -> None:
    process = start()
    port = int(url_of(process).rsplit(":", 1)[1].rstrip("/"))
    body = b'{"messages": [{"role": "user", "content": "Hi"}], "stream": true}'
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        data = connection.recv(1)
        process.send_signal(signal.SIGTERM)
        while more := connection.recv(1 << 16):
            data += more
    assert b"The server is stopping." in data
    assert process.wait(WAIT) == 0


def test_an_end_while_answers_wait_for_clients_that_left(start: Start) -> None:
    """Writing to closed connections must not kill the process."""
    process = start()
    port = int(url_of(process).rsplit(":", 1)[1].rstrip("/"))
    body = b'{"messages": [{"role": "user", "content": "Hi"}]}'
    post = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
        connection.sendall(post * 9)
    assert end(process) == 0


def test_a_signal_sent_twice_is_one(start: Start, tmp_path: Path) -> None:
    process = start()
    url_of(process)
    process.send_signal(signal.SIGTERM)
    assert end(process) == 0
    assert not (tmp_path / "run" / "key.json").exists()


def test_a_second_start_finds_the_first(start: Start) -> None:
    first = start()
    url = url_of(first)
    second = start(port=None)
    assert url_of(second) == url
    assert second.wait(WAIT) == 0
    assert health(url)["status"] == "ok"


def test_a_second_start_with_options_of_its_own_is_another(start: Start, tmp_path: Path) -> None:
    first = start()
    url = url_of(first)
    second = start(reuse=False)
    assert url_of(second) != url
    # The later one is announced; the earlier one leaves that alone when it ends.
    assert end(first) == 0
    assert state_of(tmp_path)["pid"] == second.pid


def test_the_state_of_a_killed_server_is_ignored(start: Start, tmp_path: Path) -> None:
    first = start()
    url = url_of(first)
    assert end(first, signal.SIGKILL) == -signal.SIGKILL
    assert state_of(tmp_path)["pid"] == first.pid
    port = int(url.rsplit(":", 1)[1].rstrip("/"))
    # Somebody else has the port by now, another server of ours at that.
    other = start(port=port, state_file=str(tmp_path / "other.json"))
    assert url_of(other) == url
    third = start()
    assert url_of(third) != url
    assert health(url_of_state(tmp_path))["status"] == "ok"


def url_of_state(tmp_path: Path) -> str:
    return f"http://127.0.0.1:{state_of(tmp_path)['port']}/"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"pid": 1, "host": 5, "port": 1, "token": ""}',
             '{"pid": 1, "host": "127.0.0.1", "port": 99999, "token": "x"}'],
)  # fmt: skip
def test_a_damaged_state_file_is_replaced(start: Start, tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "key.json").write_text(text)
    process = start()
    assert health(url_of(process))["instance"] == state_of(tmp_path)["token"]


def test_a_failed_server_is_not_reused(start: Start) -> None:
    first = start(fault="it is cut off; build it again")
    url = url_of(first)
    assert first.stdout
    assert first.stdout.readline() == "Error: it is cut off; build it again\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        health(url)
    assert caught.value.code == 500
    assert json.load(caught.value)["error"] == "it is cut off; build it again"
    second = start()
    assert url_of(second) != url
    assert end(first) == 1


def test_a_state_file_that_cannot_be_written_stops_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a folder should be")
    assert health(url_of(start()))["status"] == "ok"


def test_a_port_that_is_taken(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(port=port)
        _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert errors == (
        f"Error: port {port} is in use by another program; choose another one with --port, "
        "or leave --port out to take the first free one\n"
    )


def test_an_open_server_is_warned_of(start: Start) -> None:
    process = start(host="0.0.0.0")
    assert url_of(process).startswith("http://127.0.0.1:")
    assert process.stdout
    assert process.stdout.readline().startswith("Warning: listening on 0.0.0.0")


@pytest.mark.parametrize("wanted", [True, False])
def test_the_browser_is_opened_once(start: Start, tmp_path: Path, wanted: bool) -> None:
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> "{opened}"\n')
    browser.chmod(0o755)
    os.mkfifo(opened)
    environment = {"BROWSER": f"{browser} %s"}
    first = start(environment, browser=wanted)
    url = url_of(first)
    if wanted:
        assert opened.read_text() == f"{url}\n"
    second = start(environment, browser=True)
    assert opened.read_text() == f"{url}\n"  # by the second only, unless it was wanted twice
    assert second.wait(WAIT) == 0


def test_two_starts_at_once_give_one_server(start: Start) -> None:
    processes = [start() for _ in range(4)]
    assert len({url_of(process) for process in processes}) == 1
    while sum(process.poll() is not None for process in processes) < 3:
        time.sleep(0.02)
    codes = sorted(str(process.returncode) for process in processes)
    assert codes == ["0", "0", "0", "None"]
