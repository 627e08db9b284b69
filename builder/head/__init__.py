"""The first 64 KiB of an archive: the launcher for every target in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llamafile_build.head.polyglot import MAGIC_LINE, HeadError, polyglot
from llamafile_build.head.shell import BootEntry, BootTableError, default_targets, script
from llamafile_build.head.stub import windows_launcher

__all__ = [
    "HEAD_SIZE",
    "BootEntry",
    "BootTableError",
    "HeadError",
    "render_head",
    "windows_launcher",
]

HEAD_SIZE = 65536


def render_head(
    packs: Mapping[str, BootEntry], *, title: str, targets: Sequence[str] | None = None
) -> bytes:
    """The head of an archive whose runtime packs lie at `packs`: exactly HEAD_SIZE bytes.

    Keys are linux_x64, linux_arm64, macos and windows_x64. With windows_x64 the head is shell
    script and Windows program in one, else a plain `#!/bin/sh` script. `targets` defaults to all
    that the packs can serve; naming fewer makes the launcher refuse the others. `title` becomes
    a comment. Raises BootTableError or HeadError.
    """
    chosen = default_targets(packs) if targets is None else tuple(targets)
    text = script(packs, title=title, targets=chosen, magic=MAGIC_LINE)
    if "windows_x64" in packs:
        return polyglot(windows_launcher(), text, HEAD_SIZE)
    text = b"#!/bin/sh\n" + text
    if len(text) > HEAD_SIZE:
        raise HeadError(f"the launcher is too large: {len(text)} bytes do not fit in {HEAD_SIZE}")
    return text.ljust(HEAD_SIZE, b"\n")
