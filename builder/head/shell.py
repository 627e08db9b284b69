"""Fills in the shell half of the launcher, launcher_templates/head.sh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llamafile_build.errors import BuilderError
from llamafile_build.head.templates import template

BLOCK = 4096  # the launcher seeks in steps of this size
# mksh calculates with 32 bits, signed; runtime packs come first in the archive, so this is far off.
OFFSET_LIMIT = 1 << 31
_TITLE_CHARACTERS = 200

PACKS: Mapping[str, tuple[str, ...]] = {
    "linux_x64": ("linux-x64",),
    "linux_arm64": ("linux-arm64",),
    "macos": ("macos-arm64", "macos-x64"),
    "windows_x64": ("windows-x64",),
}
"""Each runtime pack and the targets that it serves."""


class BootTableError(BuilderError):
    """The boot table that the launcher needs cannot be written."""


@dataclass(frozen=True)
class BootEntry:
    """Where a runtime pack lies: absolute byte offset, size in bytes, SHA-256 in lower hex."""

    offset: int
    size: int
    sha256: str

    def line(self, pack: str) -> str:
        """The boot line of docs/format.md, which both launchers read."""
        return f"pack_{pack}='{self.offset} {self.size} {self.sha256}'"


def _check(pack: str, entry: BootEntry) -> None:
    if pack not in PACKS:
        raise BootTableError(f"no launcher knows a runtime pack named {pack}")
    if entry.offset % BLOCK or entry.offset < 0 or entry.size <= 0:
        raise BootTableError(f"the runtime pack {pack} is not at a multiple of {BLOCK} bytes")
    if entry.offset + entry.size > OFFSET_LIMIT:
        raise BootTableError(f"the runtime pack {pack} has to lie in the file's first 2 GiB")
    if len(entry.sha256) != 64 or set(entry.sha256) - set("0123456789abcdef"):
        raise BootTableError(f"the runtime pack {pack} has no SHA-256 in lower-case hex")


def _comment(title: str) -> str:
    """`title` as one harmless comment line: no control characters, bounded."""
    words = "".join(c if c.isprintable() else " " for c in title)
    return " ".join(f"# {words[:_TITLE_CHARACTERS]}".split())


def _fill(text: str, fields: Mapping[str, str]) -> str:
    for name, value in fields.items():
        mark = f"#@{name}@"
        if text.count(mark) != 1:
            raise BootTableError(f"head.sh has to hold {mark} once")
        text = text.replace(mark, value)
    return text


def default_targets(packs: Iterable[str]) -> tuple[str, ...]:
    """The targets that these runtime packs can serve, in PACKS' order."""
    present = set(packs)
    return tuple(target for pack in PACKS if pack in present for target in PACKS[pack])


def script(
    packs: Mapping[str, BootEntry], *, title: str, targets: Sequence[str], magic: str
) -> bytes:
    """The shell script for these packs, without the `#!` line.

    `targets` is what the file is said to hold and what a machine is matched with. `magic` is the
    first line of a polyglot, by which the script knows its own file. Raises BootTableError.
    """
    for pack, entry in packs.items():
        _check(pack, entry)
    known = default_targets(packs)
    for target in targets:
        if target not in known:
            raise BootTableError(f"the file has no runtime for its target {target}")
    table = [entry.line(pack) for pack, entry in sorted(packs.items())]
    table.append(f"targets='{' '.join(targets)}'")
    # The title goes in last: whatever it holds is not looked at again.
    fields = {"magic": magic, "boot-table": "\n".join(table), "title": _comment(title)}
    return _fill(template("head.sh").decode("utf-8"), fields).encode("utf-8")
