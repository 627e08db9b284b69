"""What the builder prints at the end: the file, and what to do with it on each system."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llamafile_runtime.format.layout import WINDOWS_MAX_EXE
from llamafile_runtime.format.targets import TARGETS

from .console import human_size

if TYPE_CHECKING:
    from .build import BuildResult

_FAT32_MAX = 0xFFFF_FFFF  # the size field of a FAT directory entry has 32 bits


def summary_lines(result: BuildResult) -> list[str]:
    """The closing lines of a build."""
    speed = result.model_bytes / max(result.seconds, 1e-9)
    lines = [
        f"{result.output}  {human_size(result.size)}"
        f"  ({human_size(result.size - result.model_bytes)} around the model; "
        f"{result.seconds:.1f} s, {human_size(int(speed))}/s)",
        f"  model    {result.model_name}: {result.architecture}, "
        f"{_count(result.parameters)} parameters, {result.quantization}",
        f"  memory   about {human_size(result.memory)} with {result.context:,} tokens of context",
        "  runs on  " + ", ".join(TARGETS[name].title for name in result.targets),
    ]
    lines += [f"  {line}" for line in _first_run(result)]
    if result.size > _FAT32_MAX:
        lines.append("  note     FAT32 disks hold no file over 4 GiB: format the stick as exFAT")
    return lines


def _first_run(result: BuildResult) -> Iterator[str]:
    names = result.targets
    file = shlex.quote(str(_runnable(result.output)))
    if any(name.startswith(("linux", "macos")) for name in names):
        plain = "windows-x64" not in names
        yield f"start    {file}" if plain else f"start    sh {file}    (Linux, macOS)"
    if "windows-x64" in names:
        if result.windows_launcher:
            yield f"start    {result.windows_launcher.name} beside the file    (Windows: " + (
                "it starts no .exe over 4 GiB)"
            )
        elif result.output.suffix.lower() == ".exe":
            yield f"start    {result.output.name}    (Windows)"
        else:
            yield f"start    rename it to {result.output.name}.exe    (Windows)"


def needs_windows_launcher(size: int, targets: tuple[str, ...]) -> bool:
    """Whether a file of ``size`` bytes is too large for Windows to start it itself."""
    return size > WINDOWS_MAX_EXE and "windows-x64" in targets


def _runnable(path: Path) -> Path | str:
    return path if path.is_absolute() or len(path.parts) > 1 else f"./{path}"


def _count(parameters: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if parameters >= size:
            return f"{parameters / size:.3g}{unit}"
    return str(parameters)
