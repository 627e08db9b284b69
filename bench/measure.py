"""What the benchmarks share: running things in turns on a quiet machine, and telling the spread."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_QUIET = 0.05
"""The share of all cores that other work may take when a run begins."""

_PATIENCE = 600.0
"""Seconds to wait for that."""


@dataclass(frozen=True)
class Run:
    """A finished command: wall-clock seconds, peak resident memory in bytes, standard output."""

    seconds: float
    peak: int
    output: str


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Run:
    """Run a command and measure it. Raises CalledProcessError."""
    arguments = [str(part) for part in command]
    started = time.perf_counter()
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments, output)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if platform.system() == "Darwin" else 1024
    return Run(seconds, usage.ru_maxrss * unit, output)


def in_turns(
    ways: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Measure every way once a round, so that whatever else the machine does hits them alike.

    The order turns round by round. The first ``warm_up`` rounds are not counted.
    """
    values: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + warm_up):
        for name in names:
            wait_until_quiet()
            value = ways[name]()
            if number >= warm_up:
                values[name].append(value)
        names.append(names.pop(0))
    return values


def wait_until_quiet() -> None:
    """Wait until other work leaves the machine alone (Linux; elsewhere only for a moment)."""
    end = time.monotonic() + _PATIENCE
    while busy_share(0.3) > _QUIET:
        if time.monotonic() > end:
            raise SystemExit("this machine has other work to do: no measuring here")


def busy_share(seconds: float) -> float:
    """The share of all cores' time that was used during the next ``seconds``."""
    before = _cpu_times()
    time.sleep(seconds)
    after = _cpu_times()
    total = sum(after) - sum(before)
    idle = sum(after[3:5]) - sum(before[3:5])  # idle and waiting for a disk, proc(5)
    return 1 - idle / total if total else 0.0


def _cpu_times() -> list[int]:
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except FileNotFoundError:
        return [0]
    return [int(field) for field in line.split()[1:9]]


@dataclass(frozen=True)
class Row:
    """A measured way beside its peer; ``peer`` None has nothing to be compared with."""

    name: str
    values: Sequence[float]
    peer: Sequence[float] | None = None


def print_table(title: str, unit: str, rows: Sequence[Row], digits: int = 0) -> None:
    """A Markdown table: least, median, most, and the median's ratio to the peer's median."""
    print(f"\n{title}, {unit}:\n")
    print("| | min | median | max | ratio to peer |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        cells = [
            f"{value:,.{digits}f}"
            for value in (min(row.values), statistics.median(row.values), max(row.values))
        ]
        ratio = f"{ratio_of(row.values, row.peer):.2f}" if row.peer else "–"  # noqa: RUF001
        print(f"| {row.name} | {' | '.join(cells)} | {ratio} |")


def ratio_of(values: Sequence[float], peer: Sequence[float]) -> float:
    """Ratio of the medians."""
    return statistics.median(values) / statistics.median(peer)


def print_machine() -> None:
    """A line about this machine, for docs/benchmarks.md."""
    model = platform.processor() or platform.machine()
    memory = 0.0
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
        memory = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1]) / 1e6
    except FileNotFoundError:
        pass
    print(
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.platform()}, "
        f"Python {platform.python_version()}"
    )
