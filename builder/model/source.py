"""The model that the user named, as one stream of GGUF bytes, wherever it lies."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from llamafile_runtime.format.gguf import GGUF, GGUFError, SeekableFile, read_gguf

from ..archive.writer import ClosableSource
from ..console import Console
from ..errors import InputError, UsageError
from .merge import merge_parts
from .named import DEFAULT_MODEL, NAMED_MODELS, fetch_named
from .wrongkind import describe, describe_folder
from .zipped import MemberReader, find_gguf

_UNSAFE = re.compile(r"[^\w.+=@ -]")


@dataclass(frozen=True)
class ModelInput:
    """A model that was found and whose header was read.

    ``name`` is its file name inside the archive, ``size`` its GGUF bytes, ``open`` gives a fresh
    reader of them; ``paths`` are the files that are read, which the output must not be. ``source``
    says where it came from, ``title`` what it is called and ``system_prompt`` what suits it, where
    the builder knows.
    """

    name: str
    size: int
    header: GGUF
    open: Callable[[], ClosableSource]
    paths: tuple[Path, ...]
    source: str | None = None
    title: str | None = None
    system_prompt: str | None = None


def open_model(spec: str | None, console: Console, *, offline: bool = False) -> ModelInput:
    """Find the model: a path, or the name of a built-in one (the default when ``spec`` is None).

    Raises InputError saying what the file is instead when it is no GGUF, UsageError when nothing
    of that name exists.
    """
    path = Path(spec or DEFAULT_MODEL)
    if path.is_dir():
        raise InputError(describe_folder(path))
    if not path.exists():
        if str(path) in NAMED_MODELS:
            named = fetch_named(str(path), console, offline=offline)
            return replace(
                _from_zip(named.path),
                source=named.source,
                title=named.model.title,
                system_prompt=named.model.system_prompt,
            )
        raise UsageError(
            f"there is no model {path}: name a .gguf file, or one of: {', '.join(NAMED_MODELS)}"
        )
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if start.startswith(b"GGUF"):
        return _from_gguf(path)
    if zipfile.is_zipfile(path):
        return _from_zip(path)
    raise InputError(describe(path, start))


def _from_gguf(path: Path) -> ModelInput:
    size = path.stat().st_size
    with path.open("rb") as file:
        header = _read_header(path, file, size)
    if header.split_count > 1:
        merged = merge_parts(path, header)
        return ModelInput(
            safe_name(merged.name), merged.size, merged.header, merged.open, merged.paths
        )
    return ModelInput(
        safe_name(path.name), size, header, lambda: path.open("rb", buffering=0), (path,)
    )


def _from_zip(path: Path) -> ModelInput:
    info = find_gguf(path)
    with closing(MemberReader(path, info)) as file:
        header = _read_header(Path(info.filename), file, info.file_size)
    if header.split_count > 1:
        raise InputError(
            f"{info.filename} in {path} is one part of a split model; unpack all parts"
        )
    name = safe_name(Path(info.filename).name)
    return ModelInput(name, info.file_size, header, lambda: MemberReader(path, info), (path,))


def _read_header(path: Path, file: SeekableFile, size: int) -> GGUF:
    try:
        return read_gguf(file, size=size)
    except GGUFError as error:
        raise InputError(f"{path}: {error}") from error


def safe_name(name: str) -> str:
    """A file name that every system can unpack, ending in ``.gguf``."""
    stem = _UNSAFE.sub("_", name.removesuffix(".gguf")).strip(" .") or "model"
    return f"{stem[:120]}.gguf"
