"""What the builder tells while it works: notes, warnings and progress bars, all on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class Console:
    """Writes to stderr; ``quiet`` keeps everything but warnings back."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._rich = RichConsole(stderr=True, highlight=False, soft_wrap=True)

    def note(self, message: str) -> None:
        """A line that helps whoever watches."""
        if not self.quiet:
            self._rich.print(message, markup=False)

    def warn(self, message: str) -> None:
        """A line that must not be missed."""
        self._rich.print(f"warning: {message}", markup=False, style="yellow")

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar for ``total`` bytes; yields a function that is told of bytes done.

        Shown on a terminal only.
        """
        if self.quiet or not self._rich.is_terminal:
            yield lambda count: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._rich, transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda count: bar.advance(task, count)


def human_size(size: int) -> str:
    """A byte count as a person reads it, in decimal units as disks are sold in."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"
