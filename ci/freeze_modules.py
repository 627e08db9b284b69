"""Raise builder/pack/modules-<version>.txt: the standard library modules of the runtime.

PyInstaller's analysis follows the imports of the runtime and of the packages that it uses. A
build only reads the list. The list depends on the Python that runs this, so run it with each:

    python ci/freeze_modules.py [--check]

Needs the extra `pins`, and the runtime's dependencies installed (typing_extensions, colorama and
a folder with llama_cpp's ctypes layer are taken from the pinned components).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

import llamafile_runtime
from llamafile_build.components import ComponentStore, load_lock
from llamafile_build.pack.library import PACKAGES, component_sources

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIST = Path(__file__).parent.parent / "builder" / "pack" / f"modules-{PYTHON}.txt"

# Imported somewhere behind a condition that never holds in the runtime, or of no use there.
EXCLUDED = (
    "_pydecimal", "_pyio", "argparse", "asyncio", "bz2", "cmd", "concurrent", "curses", "dbm",
    "decimal", "distutils", "doctest", "ensurepip", "fractions", "ftplib", "idlelib", "lib2to3",
    "lzma", "multiprocessing", "optparse", "pdb", "profile", "pstats", "pydoc", "pydoc_data",
    "readline", "sqlite3", "ssl", "statistics", "test", "tkinter", "tracemalloc", "turtle",
    "unittest", "venv", "xml", "xmlrpc",
)  # fmt: skip

# Asked for by name at run time, so no analysis sees them.
HIDDEN = (
    "__future__", "encodings.aliases", "encodings.ascii", "encodings.charmap", "encodings.cp1252",
    "encodings.cp437", "encodings.cp850", "encodings.idna", "encodings.latin_1", "encodings.mbcs",
    "encodings.oem", "encodings.punycode", "encodings.raw_unicode_escape",
    "encodings.unicode_escape", "encodings.utf_16", "encodings.utf_16_be", "encodings.utf_16_le",
    "encodings.utf_8", "encodings.utf_8_sig", "ntpath", "posixpath", "zipimport",
)  # fmt: skip

SPECIFICATION = """
import json
analysis = Analysis(
    {scripts!r}, pathex={paths!r}, hiddenimports={hidden!r}, excludes={excluded!r}, optimize=0,
)
from PyInstaller.compat import PY3_BASE_MODULES
names = {{name for name, _, _ in analysis.pure}} | set(PY3_BASE_MODULES) | set({hidden!r})
# PyInstaller keeps the base modules, and with them their packages' modules, in an archive apart.
names |= {{f"{{package}}.{{module}}" for package in ("collections", "re") for module in
          ("abc", "_casefix", "_compiler", "_constants", "_parser")}}
open({out!r}, "w").write(json.dumps(sorted(names)))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    options = parser.parse_args()
    header = f"# Written by ci/freeze_modules.py with Python {platform.python_version()}."
    names = standard_modules()
    if options.check:
        return compare(header, names)
    LIST.write_text("".join(f"{line}\n" for line in [header, *names]), encoding="utf-8")
    print(f"wrote {LIST.name}: {len(names)} modules")
    return 0


def compare(header: str, names: list[str]) -> int:
    """Print differences. Another micro version may well need less, but never more."""
    known_header, *known = LIST.read_text(encoding="utf-8").splitlines()
    differences = [f"{LIST.name} lacks {name}" for name in sorted(set(names) - set(known))]
    if header == known_header:
        superfluous = sorted(set(known) - set(names))
        differences += [f"{LIST.name} has {name}, which nothing imports" for name in superfluous]
    print("\n".join(differences) or f"{LIST.name} is up to date")
    return 1 if differences else 0


def standard_modules() -> list[str]:
    """The pure standard library modules that the runtime can reach, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        names = analysed(Path(folder))
    return [
        name
        for name in names
        if name.split(".")[0] in sys.stdlib_module_names
        and not any(name == item or name.startswith(item + ".") for item in EXCLUDED)
        and is_pure(name)
    ]


def is_pure(name: str) -> bool:
    folder = Path(os.__file__).parent
    path = folder / name.replace(".", "/")
    return path.with_name(path.name + ".py").is_file() or (path / "__init__.py").is_file()


def analysed(folder: Path) -> list[str]:
    packages = folder / "packages"
    unpack_components(packages)
    (packages / "llamafile_runtime").symlink_to(Path(llamafile_runtime.__file__).parent)
    entry = folder / "entry.py"
    entry.write_text("".join(f"import {name}\n" for name in runtime_modules()), encoding="utf-8")
    out = folder / "modules.json"
    spec = folder / "runtime.spec"
    spec.write_text(
        SPECIFICATION.format(
            scripts=[str(entry)],
            paths=[str(packages)],
            hidden=[*HIDDEN, *PACKAGE_MODULES],
            excluded=list(EXCLUDED),
            out=str(out),
        ),
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"]
    command += ["--distpath", str(folder / "dist"), "--workpath", str(folder / "work"), str(spec)]
    subprocess.run(command, check=True, cwd=folder)
    names: list[str] = json.loads(out.read_text(encoding="utf-8"))
    return sorted(names)


PACKAGE_MODULES = (
    "click", "jinja2", "jinja2.ext", "jinja2.sandbox", "llama_cpp.llama_cpp", "markupsafe",
    "platformdirs.macos", "platformdirs.unix", "platformdirs.windows", "typing_extensions",
    "waitress", "waitress.server", "colorama",
)  # fmt: skip


def unpack_components(folder: Path) -> None:
    """The pinned Python packages, so that exactly what is shipped is analysed."""
    lock = load_lock()
    root = Path(platformdirs.user_cache_dir("llamafile-build", appauthor=False)) / "components"
    store = ComponentStore(root, no_progress)
    components = [lock.component(component_id) for component_id in PACKAGES]
    store.ensure(components)
    for component in components:
        for source in component_sources(component, store):
            path = folder / source.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.data)
    (folder / "llama_cpp" / "__init__.py").touch()


def runtime_modules() -> Iterator[str]:
    root = Path(llamafile_runtime.__file__).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        yield ".".join(("llamafile_runtime", *parts[1:])).removesuffix(".__init__")


@contextlib.contextmanager
def no_progress(title: str, total: int) -> Iterator[object]:
    yield lambda count: None


if __name__ == "__main__":
    sys.exit(main())
