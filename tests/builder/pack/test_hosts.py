"""Every pack's host starts, and imports everything that was bundled for it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamafile_build.pack.library import Source, compile_module

# The host runs the module __init__<its own name>: under another name it runs this.
PROBE = r"""
import sys


def run(name=None):
    import json
    task, *rest = sys.argv[1:]
    sys.stdout.write("RESULT " + json.dumps(globals()[task](*rest)))


def imports(*names):
    import importlib

    failed = {}
    for name in [*names, *sys.builtin_module_names]:
        try:
            importlib.import_module(name)
        except BaseException as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return failed


def bind(folder):
    from pathlib import Path
    from llamafile_runtime.native.bindings import bind
    from llamafile_runtime.native.library import load_libraries
    from llamafile_runtime.native.log import Log

    api = bind(load_libraries(Path(folder)), Log(echo=False))
    return api.llama_print_system_info().decode()


def facts():
    import hashlib
    import pkgutil
    import platform

    return {
        "version": platform.python_version(),
        "path": sys.path,
        "flags": {"optimize": sys.flags.optimize, "no_site": "site" not in sys.modules},
        "openssl": type(hashlib.sha256()).__module__,
        "page": len(pkgutil.get_data("llamafile_runtime.web", "static/index.html")),
    }
"""

# Modules that belong to another system: these must fail here, and nothing else may.
FAILS = {
    "linux": {"click._winconsole", "encodings.mbcs", "encodings.oem"},
    "windows": {"tty"},
}
# They want a library that only the native pack brings: test_bindings tries them with it.
NEEDS_LLAMA = {"llama_cpp", "llama_cpp._ggml", "llama_cpp.llama_cpp"}


def add_probe(root: Path) -> Path:
    """Give the host a second name and a module to run under it."""
    host = next((root / "bin").glob("llamafile*"))
    probe = host.with_name(host.name.replace("llamafile", "probe"))
    if not probe.exists():
        shutil.copy2(host, probe)
        with zipfile.ZipFile(root / "bin/lib/library.zip", "a") as archive:
            archive.writestr(
                "__init__probe.pyc", compile_module(Source("__init__probe.py", PROBE.encode()))
            )
    return probe


def bundled(root: Path) -> list[str]:
    """The names of all modules in a runtime pack."""
    with zipfile.ZipFile(root / "bin/lib/library.zip") as archive:
        names = [n.removesuffix(".pyc") for n in archive.namelist() if n.endswith(".pyc")]
    modules = {name.replace("/", ".").removesuffix(".__init__") for name in names}
    libraries = {path.name.split(".")[0] for path in (root / "bin/lib").glob("*.so")}
    libraries |= {path.stem for path in (root / "bin/lib").glob("*.pyd")}
    return sorted((modules | libraries) - {"__init__probe"})


Run = Callable[..., Any]


def result(command: list[str], **options: Any) -> Any:
    done = subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=600, **options
    )
    assert b"RESULT " in done.stdout, done.stderr.decode(errors="replace")
    return json.loads(done.stdout.split(b"RESULT ")[1])


@pytest.fixture(params=["linux-x64", "linux-arm64", "windows-x64"])
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(system: str, unpack: Callable[[str], Path]) -> Path:
    folder = unpack(f"runtime/{system}.tar.gz")
    add_probe(folder)
    return folder


@pytest.fixture
def native(system: str, unpack: Callable[[str], Path]) -> Path:
    return unpack(f"native/{system}-cpu.tar.gz")


@pytest.fixture
def run(system: str, root: Path, native: Path, request: pytest.FixtureRequest) -> Run:
    """Run the probe on its system: run(*arguments, **environment)."""
    if system == "windows-x64":
        wine = request.getfixturevalue("wine")
        program = ["wine", str(root / "bin/probe.exe")]
        return lambda *arguments, **more: result([*program, *arguments], env={**wine, **more})
    if system == "linux-arm64":
        command = ["proot", "-q", "qemu-aarch64", "-r", str(request.getfixturevalue("arm64_root"))]
        command += ["-w", "/", "-b", str(root), "-b", str(native), str(root / "bin/probe")]
        return lambda *arguments, **more: result([*command, *arguments], env={**os.environ, **more})
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("needs Linux on x86-64")
    program = [str(root / "bin/probe")]
    return lambda *arguments, **more: result([*program, *arguments], env={**os.environ, **more})


def test_every_module_imports(system: str, root: Path, run: Run) -> None:
    failed = run("imports", *bundled(root))
    assert set(failed) == FAILS[system.split("-")[0]] | NEEDS_LLAMA, json.dumps(failed, indent=1)


def test_facts(system: str, root: Path, run: Run) -> None:
    """Whatever the environment says, the host uses its own library only."""
    facts = run("facts", PYTHONHOME="/nowhere", PYTHONPATH="/elsewhere", PYTHONOPTIMIZE="2")
    assert facts["version"].rsplit(".", 1)[0] == platform.python_version().rsplit(".", 1)[0]
    assert facts["flags"] == {"optimize": 0, "no_site": True}
    assert not [path for path in facts["path"] if "where" in path]
    assert facts["openssl"] == "_hashlib"
    assert facts["page"] > 100


def test_bindings(native: Path, run: Run) -> None:
    folder = str(native)
    assert "CPU : " in run("bind", folder)
