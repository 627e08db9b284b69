"""Facts about the machine: how many threads are worth starting, how much memory is free."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from pathlib import Path

_CPU = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")


def default_threads() -> int:
    """Threads for generating: physical cores that this process may use, at least 1.

    Hyperthreads share the units that matrix products need, so a second thread on a core gains
    nothing; and a thread that waits for its turn on a core stops all others at ggml's barriers,
    so affinity and container quotas count too.
    """
    if sys.platform == "linux":
        cores = _linux_cores()
    elif sys.platform == "darwin":
        # Performance cores first: the efficiency cores would hold the others up.
        cores = _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu")
    elif sys.platform == "win32":
        cores = _windows_cores()
    else:
        cores = 0
    return max(1, cores or (os.cpu_count() or 2) // 2)


def available_memory() -> int | None:
    """Bytes that can be used without swapping, or None when nothing tells."""
    if sys.platform == "linux":
        return _linux_memory()
    if sys.platform == "darwin":
        # macOS compresses and drops caches freely; half of what is built in is a fair guess.
        return (_sysctl("hw.memsize") or 0) // 2 or None
    if sys.platform == "win32":
        return _windows_memory()
    return None


def _linux_cores() -> int:
    cpus = os.sched_getaffinity(0) if sys.platform == "linux" else set[int]()
    cores = {_siblings(cpu) for cpu in cpus}
    return max(1, math.floor(min(len(cores), _cpu_quota())))


def _siblings(cpu: int) -> str:
    """The cpus of one core, as the kernel spells them; a cpu of its own where it does not say."""
    try:
        return (_CPU / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cpu_quota() -> float:
    """CPUs that the control group grants (cgroup v2's cpu.max), or infinity."""
    quota = math.inf
    for folder in _cgroup_folders():
        try:
            limit, period = (folder / "cpu.max").read_text().split()
            if limit != "max":
                quota = min(quota, int(limit) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return quota


def _cgroup_folders() -> list[Path]:
    """This process's control group and those above it; a limit may stand at any of them."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = _CGROUP / own.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(_CGROUP))]


def _linux_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kib = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    if kib is None:
        return None
    available = kib * 1024
    for folder in _cgroup_folders():
        try:
            limit = (folder / "memory.max").read_text().strip()
            used = int((folder / "memory.current").read_text())
            if limit != "max":
                available = min(available, max(0, int(limit) - used))
        except (OSError, ValueError):
            continue
    return available


def _sysctl(name: str) -> int:
    """An integer that macOS's kernel gives, 0 when it has none of that name."""
    value, size = ctypes.c_uint64(0), ctypes.c_size_t(8)
    try:
        call = ctypes.CDLL(None).sysctlbyname
    except (OSError, AttributeError):
        return 0
    failed = call(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return 0 if failed else int(value.value)


def _windows_cores() -> int:
    """Physical cores by GetLogicalProcessorInformation, 0 when it fails."""

    class Information(ctypes.Structure):  # SYSTEM_LOGICAL_PROCESSOR_INFORMATION, 64-bit
        _fields_ = (
            ("mask", ctypes.c_size_t),
            ("relationship", ctypes.c_int),
            ("reserved", ctypes.c_uint64 * 2),
        )

    size = ctypes.c_uint32(0)
    call = ctypes.CDLL("kernel32").GetLogicalProcessorInformation
    call(None, ctypes.byref(size))
    table = (Information * (size.value // ctypes.sizeof(Information)))()
    if not call(table, ctypes.byref(size)):
        return 0
    return sum(1 for entry in table if entry.relationship == 0)  # RelationProcessorCore


def _windows_memory() -> int | None:
    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("available", ctypes.c_uint64),
            ("rest", ctypes.c_uint64 * 5),
        )

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.CDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.available)
