"""The built file on this machine's own Linux: every shell, mapping, API, browser."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import ONE_THREAD, QUESTION, SYSTEM_PROMPT, Server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        platform.system() != "Linux" or platform.machine() != "x86_64",
        reason="needs Linux on x86-64",
    ),
]

SHELLS = {
    "sh": ["sh"],
    "dash": ["dash"],
    "bash": ["bash"],
    "zsh": ["zsh"],
    "mksh": ["mksh"],
    "busybox": ["busybox", "sh"],
}


def ask(command: list[str], environment: dict[str, str], **options: Any) -> str:
    done = subprocess.run(
        [*command, "-p", QUESTION, "--temp", "0", *ONE_THREAD],
        env=environment, capture_output=True, text=True, check=True, timeout=300, **options,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_answers_under_every_shell(
    shell: str,
    built_file: Path,
    environment: dict[str, str],
    debian_tools: Callable[..., None],
) -> None:
    debian_tools(SHELLS[shell][0])
    assert "Paris" in ask([*SHELLS[shell], str(built_file)], environment)


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
def test_shells_start_the_file_directly(
    shell: str,
    built_file: Path,
    environment: dict[str, str],
    debian_tools: Callable[..., None],
) -> None:
    debian_tools(shell)
    done = subprocess.run(
        [shell, "-c", '"$0" --version', str(built_file)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "SmolLM2" in done.stdout or "Smollm2" in done.stdout


def test_without_windows_the_file_is_an_ordinary_program(
    built_unix: Path, environment: dict[str, str]
) -> None:
    assert "Paris" in ask([str(built_unix)], environment)


def test_zip_tools_accept_the_file(built_file: Path, debian_tools: Callable[..., None]) -> None:
    debian_tools("unzip", "7z")
    subprocess.run(["unzip", "-tqq", str(built_file)], check=True)
    subprocess.run(["7z", "t", str(built_file)], check=True, stdout=subprocess.DEVNULL)


def test_model_is_mapped_from_the_file_itself(
    built_file: Path, serve: Callable[..., Server], cache: Path, smollm2: Path
) -> None:
    server = serve(built_file)
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    mapped = sum(
        int(end, 16) - int(start, 16)
        for line in maps.splitlines()
        if line.endswith(f" {built_file}")
        for start, end in [line.split()[0].split("-")]
    )
    assert mapped >= 0.9 * smollm2.stat().st_size
    largest = max(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert largest < smollm2.stat().st_size / 4
    assert not [line for line in maps.splitlines() if "(deleted)" in line and "memfd" in line]


def test_nothing_the_size_of_the_model_is_written(
    built_file: Path, smollm2: Path, tmp_path: Path
) -> None:
    places = {name: tmp_path / name for name in ("HOME", "TMPDIR", "work")}
    for folder in places.values():
        folder.mkdir()
    environment = {**os.environ, **{name: str(places[name]) for name in ("HOME", "TMPDIR")}}
    for name in ("XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        environment.pop(name, None)
    assert "Paris" in ask(["sh", str(built_file)], environment, cwd=places["work"])
    sizes = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert max(sizes.values()) < smollm2.stat().st_size / 4
    assert not list(places["TMPDIR"].iterdir())
    assert not list(places["work"].iterdir())


def test_an_unpacked_file_writes_next_to_nothing(
    built_file: Path, serve: Callable[..., Server], smollm2: Path
) -> None:
    """Neither by files nor by pipes or sockets, wherever they are."""
    serve(built_file)  # unpacks, if no other test did
    server = serve(built_file)
    counts = Path(f"/proc/{server.process.pid}/io").read_text()
    moved = dict(line.split(": ") for line in counts.splitlines())
    assert int(moved["wchar"]) < 1 << 20
    assert int(moved["rchar"]) < smollm2.stat().st_size / 2


def test_second_start_unpacks_nothing(built_file: Path, environment: dict[str, str]) -> None:
    def listing() -> dict[str, tuple[int, int]]:
        root = Path(environment["XDG_CACHE_HOME"])
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_ino)
            for folder in ("runtime", "native")
            for path in (root / "llamafile-build" / folder).rglob("*")
        }

    ask(["sh", str(built_file)], environment)
    before = listing()
    assert before
    ask(["sh", str(built_file)], environment)
    assert listing() == before


def test_prompt_on_stdin(built_file: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", str(built_file), "--temp", "0", "-n", "8", *ONE_THREAD],
        input="1, 2, 3, 4,", env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip().startswith("5")


def test_openai_client_streams_a_chat(built_file: Path, serve: Callable[..., Server]) -> None:
    from openai import OpenAI

    server = serve(built_file)
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    model = client.models.list().data[0].id
    stream = client.chat.completions.create(
        model=model, stream=True, temperature=0,
        messages=[
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": "What is the capital of France?"},
        ],
    )  # fmt: skip
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "Paris" in "".join(pieces)
    assert len([piece for piece in pieces if piece]) > 3


@pytest.mark.browser
def test_browser_gets_an_answer(
    built_file: Path, serve: Callable[..., Server], chromium: str
) -> None:
    from playwright.sync_api import sync_playwright

    server = serve(built_file, "--temp", "0", "--system-prompt", SYSTEM_PROMPT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update",
                  "--disable-sync"],
        )  # fmt: skip
        page = browser.new_page()
        page.goto(server.url)
        page.get_by_role("textbox").fill("What is the capital of France?")
        page.keyboard.press("Enter")
        page.get_by_text("Paris").first.wait_for(timeout=60_000)
        browser.close()


def test_info_tells_what_is_in_the_file(built_file: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", str(built_file), "info", "--json"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    text = json.dumps(json.loads(done.stdout))
    for word in ("llama", "Q4_1", "apache-2.0", "windows-x64", "waitress"):
        assert word in text


def test_odd_places_and_names(
    built_unix: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / 'it\'s "odd" ünïcode  dir'
    folder.mkdir()
    file = folder / "my model $HOME 'x'.llamafile"
    shutil.copy(built_unix, file)
    assert "Paris" in ask([str(file)], environment)
    (tmp_path / "link").symlink_to(file)
    assert "Paris" in ask(["./link"], environment, cwd=tmp_path)
    path = {**environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert "Paris" in ask(["link"], path)


def test_libraries_in_the_current_folder_are_not_loaded(
    built_file: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The packs' RUNPATH has an empty part, which means the current folder."""
    for name in ("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6"):
        (tmp_path / name).write_bytes(b"this is no library: loading it fails")
    assert "Paris" in ask(["sh", str(built_file)], environment, cwd=tmp_path)
