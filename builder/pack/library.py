"""library.zip: every pure Python module of the runtime, compiled.

The standard library's modules come from the builder's own interpreter, those named in
``modules-<version>.txt``, which PyInstaller's analysis made (ci/freeze_modules.py).
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from ..components import Component, ComponentStore
from .packfile import PackError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNCHECKED_HASH = 0b01  # PEP 552: a hash-based .pyc that is never compared with its source
# Version 2 of marshal writes no back references. Later versions write one wherever an object's
# reference count happens to be above one, so their bytes depend on what else is in memory.
_MARSHAL_VERSION = 2

# Top-level packages that each Python component brings.
PACKAGES = {
    "click": ("click",),
    "colorama": ("colorama",),
    "jinja2": ("jinja2",),
    "llama-cpp-python": ("llama_cpp",),
    "markupsafe": ("markupsafe",),
    "platformdirs": ("platformdirs",),
    "typing-extensions": ("typing_extensions",),
    "waitress": ("waitress",),
}

# Tests, and programs or plug-ins that nothing in the runtime starts.
_UNUSED = {"tests", "testing.py", "pytest_plugin.py", "__main__.py"}

_BOOT = {
    # freeze-core's host has a frozen __startup__, which calls run() of __init__<exe name>.
    "__init__llamafile.py": (
        "import sys\n\n\ndef run(name=None):\n    sys.frozen = True\n"
        "    from llamafile_runtime.start import main\n\n    sys.exit(main())\n"
    ),
    # On Windows its __startup__ asks here for folders of further libraries.
    "BUILD_CONSTANTS.py": "__LIBS__ = None\n",
}


@dataclass(frozen=True)
class Source:
    """A file of the library: ``path`` relative with ``/``; modules end in ``.py``."""

    path: str
    data: bytes


def library_zip(sources: Iterable[Source]) -> bytes:
    """A stored ZIP archive of the compiled modules and of data files as they are.

    It is not compressed, since the pack around it is: so reading it needs no zlib.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for source in sorted(sources, key=lambda source: source.path):
            is_module = source.path.endswith(".py")
            name = source.path + "c" if is_module else source.path
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, compile_module(source) if is_module else source.data)
    return buffer.getvalue()


def compile_module(source: Source) -> bytes:
    """The .pyc of one module (PEP 552), without a path of this machine in it."""
    code = compile(source.data, source.path, "exec", dont_inherit=True, optimize=0)
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
    return header + importlib.util.source_hash(source.data) + marshal.dumps(code, _MARSHAL_VERSION)


def boot_sources() -> list[Source]:
    """The modules that freeze-core's host asks for at its start."""
    return [Source(path, text.encode()) for path, text in _BOOT.items()]


def module_list(python: str) -> tuple[str, ...]:
    """The standard library modules for a Python minor version. Raises PackError."""
    file = resources.files(__package__).joinpath(f"modules-{python}.txt")
    if not file.is_file():
        raise PackError(f"there is no module list for Python {python}")
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def standard_library(modules: Iterable[str]) -> list[Source]:
    """Sources of standard library modules, from this interpreter. Raises PackError."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for module in modules:
        relative = module.replace(".", "/")
        for path in (f"{relative}/__init__.py", f"{relative}.py"):
            if (root / path).is_file():
                found.append(Source(path, (root / path).read_bytes()))
                break
        else:
            raise PackError(f"this Python's standard library lacks the module {module}")
    return found


def component_sources(component: Component, store: ComponentStore) -> Iterator[Source]:
    """The Python modules that a component brings, its tests left out."""
    packages = PACKAGES[component.id]
    if component.mode == "file":
        files = store.contents(component)
    else:
        files = ((m.path, store.read(component, m.path)) for m in component.members)
    for name, data in files:
        parts = name.split("/")
        starts = [i for i, part in enumerate(parts) if part.removesuffix(".py") in packages]
        if starts and name.endswith(".py") and not _UNUSED.intersection(parts):
            yield Source("/".join(parts[starts[-1] if len(parts) == 1 else starts[0] :]), data)


def runtime_sources() -> list[Source]:
    """The runtime's own modules and data files, from where it is installed."""
    return list(_walk(resources.files("llamafile_runtime"), "llamafile_runtime"))


def _walk(folder: Traversable, prefix: str) -> Iterator[Source]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.name in ("__pycache__", "__main__.py") or item.name.startswith("."):
            continue  # nothing starts the runtime of a file by `python -m`
        path = f"{prefix}/{item.name}"
        if item.is_dir():
            yield from _walk(item, path)
        else:
            yield Source(path, item.read_bytes())
