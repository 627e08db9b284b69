"""The machines that a built file can run on, and the members that each of them needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One operating system and processor.

    ``runtime_pack`` and ``native_pack`` are the stems of the member names
    ``runtime/<stem>.tar.gz`` and ``native/<stem>.tar.gz``. Both macOS targets share one runtime
    pack, since its executables are universal binaries.
    """

    name: str
    title: str
    runtime_pack: str
    native_pack: str

    @property
    def runtime_member(self) -> str:
        return f"runtime/{self.runtime_pack}.tar.gz"

    @property
    def native_member(self) -> str:
        return f"native/{self.native_pack}.tar.gz"


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("linux-x64", "Linux x86-64", "linux-x64", "linux-x64-cpu"),
        Target("linux-arm64", "Linux arm64", "linux-arm64", "linux-arm64-cpu"),
        Target("macos-arm64", "macOS on Apple silicon", "macos", "macos-arm64-metal"),
        Target("macos-x64", "macOS on Intel", "macos", "macos-x64-cpu"),
        Target("windows-x64", "Windows x86-64", "windows-x64", "windows-x64-cpu"),
    )
}
"""Every target by name, in the order in which their members lie in a file."""


def boot_key(runtime_pack: str) -> str:
    """The runtime pack's name as the head's boot table spells it (a shell identifier)."""
    return runtime_pack.replace("-", "_")


def host_target_name(system: str, machine: str) -> str | None:
    """The target that runs on this machine, or None.

    ``system`` and ``machine`` are what ``platform.system()`` and ``platform.machine()`` say.
    """
    os_name = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}.get(system)
    arch = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(
        machine.lower()
    )
    name = f"{os_name}-{arch}"
    return name if name in TARGETS else None
