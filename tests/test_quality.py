"""The code's own rules: lint, types, and which package may import which."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"builder": "llamafile_build", "runtime": "llamafile_runtime"}

MAY_IMPORT = {
    # package of the runtime → what it may import of the runtime
    "format": {"format"},
    "engine": {"engine", "native", "archive", "format", "errors"},
    "native": {"native", "archive", "format", "errors"},
    "web": {"web", "engine", "format", "errors"},
}


def modules(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, tree: ast.Module) -> Iterator[str]:
    """Absolute names of everything that a module imports."""
    relative = path.relative_to(ROOT)
    package = [FOLDERS[relative.parts[0]], *relative.parts[1:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names)


def test_ruff() -> None:
    for arguments in (["check"], ["format", "--check"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "."],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr


def test_mypy(tmp_path: Path) -> None:
    for folder, package in FOLDERS.items():
        (tmp_path / package).symlink_to(ROOT / folder)
    run = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"),
            "--cache-dir", str(tmp_path / "cache"),
            *(item for package in FOLDERS.values() for item in ("-p", package)),
        ],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_runtime_never_imports_the_builder() -> None:
    for path, tree in modules("runtime"):
        assert not [name for name in imports(path, tree) if name.startswith("llamafile_build")], (
            path
        )


def test_builder_imports_only_the_shared_parts_of_the_runtime() -> None:
    shared = ("llamafile_runtime.format", "llamafile_runtime.engine.template")
    for path, tree in modules("builder"):
        for name in imports(path, tree):
            if name.startswith("llamafile_runtime."):
                assert name.startswith(shared), f"{path} imports {name}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_runtime_layers(package: str) -> None:
    for path, tree in modules(f"runtime/{package}"):
        for name in imports(path, tree):
            parts = name.split(".")
            if parts[0] == "llamafile_runtime" and len(parts) > 1:
                assert parts[1] in MAY_IMPORT[package] | {"__version__"}, f"{path} imports {name}"


def test_format_needs_the_standard_library_only() -> None:
    for path, tree in modules("runtime/format"):
        for name in imports(path, tree):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names | {"llamafile_runtime"}, f"{path} imports {name}"


def test_only_bindings_import_llama_cpp() -> None:
    importers = [
        path.name
        for path, tree in modules("runtime")
        if any(name.split(".")[0] == "llama_cpp" for name in imports(path, tree))
    ]
    assert set(importers) <= {"bindings.py"}
