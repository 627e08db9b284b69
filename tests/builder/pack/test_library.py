"""library.zip: what is in it, and that nothing of this machine is."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llamafile_build.console import Console
from llamafile_build.pack import library
from llamafile_build.pack.library import Source, compile_module, library_zip, standard_library
from llamafile_build.pack.make import running_python
from llamafile_build.pack.packfile import PackError, PackFile
from llamafile_build.parts import gather_parts
from llamafile_runtime.format.targets import TARGETS

RUNTIME_PACKS = sorted({target.runtime_member for target in TARGETS.values()})

MAKE = """
import hashlib, sys
from llamafile_build.pack.library import *
from llamafile_build.pack.make import running_python
sources = [*standard_library(module_list(running_python())), *runtime_sources(), *boot_sources()]
if len(sys.argv) > 1:
    compile("a = 'interned'; b = (1, 2, 'x')", "other", "exec")
    sources.reverse()
print(hashlib.sha256(library_zip(sources)).hexdigest())
"""


def test_the_same_sources_give_the_same_bytes() -> None:
    """In whatever order, and whatever the process did before."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", MAKE, *arguments],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed, arguments in (("1", []), ("2", ["other"]))
    }  # fmt: skip
    assert len(digests) == 1


def test_a_module() -> None:
    data = compile_module(Source("pkg/mod.py", b"def f(): raise ValueError(1)\n"))
    assert data[4:8] == b"\x01\0\0\0"  # PEP 552: hash-based, unchecked
    assert b"pkg/mod.py" in data
    assert data == compile_module(Source("pkg/mod.py", b"def f(): raise ValueError(1)\n"))


def test_a_module_that_is_gone() -> None:
    with pytest.raises(PackError, match="lacks the module no_such_module"):
        standard_library(["os", "no_such_module"])


def test_data_stays_as_it_is() -> None:
    data = library_zip([Source("a/b.txt", b"text"), Source("a/__init__.py", b"")])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["a/__init__.pyc", "a/b.txt"]
        assert archive.read("a/b.txt") == b"text"


@pytest.mark.parametrize("member", RUNTIME_PACKS)
def test_what_is_in_it(member: str, unpack: Callable[[str], Path]) -> None:
    root = unpack(member)
    with zipfile.ZipFile(root / "bin/lib/library.zip") as archive:
        names = set(archive.namelist())
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        contents = {name: archive.read(name) for name in names}
    assert "llamafile_runtime/web/static/index.html" in names
    assert {"os.pyc", "jinja2/sandbox.pyc", "llama_cpp/llama_cpp.pyc", "click/core.pyc"} <= names
    assert ("colorama/__init__.pyc" in names) == ("windows" in member)
    unwanted = {"test", "tests", "unittest", "tkinter", "idlelib", "lib2to3", "ensurepip",
                "distutils", "__pycache__", "pip", "setuptools", "ssl.pyc"}  # fmt: skip
    assert not [name for name in names if unwanted.intersection(name.split("/"))]
    here = [str(Path(library.__file__).parents[1]), sys.prefix, str(Path.home())]
    for name, data in contents.items():
        for place in here:
            assert place.encode() not in data, f"{name} holds {place}"


def test_packs_are_made_once(packs: dict[str, PackFile]) -> None:
    inodes = {pack.path: pack.path.stat().st_ino for pack in packs.values()}
    again = gather_parts(list(TARGETS.values()), Console(quiet=True), offline=True)
    made = [*again.runtime_packs, *again.native_packs]
    assert {pack.path: pack.path.stat().st_ino for pack in made} == inodes
    assert {pack.sha256 for pack in made} == {
        hashlib.sha256(pack.path.read_bytes()).hexdigest() for pack in packs.values()
    }


def test_module_list_for_this_python() -> None:
    assert "os" in library.module_list(running_python())
    with pytest.raises(PackError, match=r"no module list for Python 2\.7"):
        library.module_list("2.7")
