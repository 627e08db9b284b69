"""The pinned list of standard library modules is what the runtime needs."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from llamafile_build.pack.library import PACKAGES, module_list
from llamafile_build.pack.make import running_python

ROOT = Path(__file__).parents[3]


def imported() -> Iterator[tuple[str, str]]:
    """Every module that the runtime imports, at any place, with the file that does."""
    for path in sorted((ROOT / "runtime").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, path.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module, path.name


def test_the_runtime_finds_what_it_imports() -> None:
    """Imports inside functions too, which starting the program does not try."""
    extensions = tomllib.loads((ROOT / "ci/components.toml").read_text())["extension_modules"]
    packages = {name for names in PACKAGES.values() for name in names}
    windows_builtin = {"msvcrt", "winreg"}
    optional = {"readline"}  # not bundled, for its licence; line editing is used where it is found
    known = {*module_list(running_python()), *extensions, *sys.builtin_module_names}
    known |= windows_builtin | optional
    missing = {
        (name, file)
        for name, file in imported()
        if name not in known and name.split(".")[0] not in packages
    }
    assert not missing


def test_the_list_is_pyinstallers() -> None:
    command = [sys.executable, str(ROOT / "ci" / "freeze_modules.py"), "--check"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
