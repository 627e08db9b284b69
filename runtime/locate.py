"""Where things are: the archive that was started, the cache, and which target this machine is."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from .errors import RuntimeFailure
from .format.targets import TARGETS, Target, host_target_name

ARCHIVE_OPTION = "--archive"


def split_arguments(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The archive that the launcher names, and the user's own arguments.

    The option counts only in the first place, so that a user's arguments are never taken for it.
    """
    if len(arguments) >= 2 and arguments[0] == ARCHIVE_OPTION:
        return Path(arguments[1]), arguments[2:]
    return None, arguments


def is_frozen() -> bool:
    """Whether this is the runtime inside a built file, not a Python that runs the package."""
    return bool(getattr(sys, "frozen", False))


def cache_root() -> Path:
    """The folder that holds ``runtime/``, ``native/`` and ``run/``.

    When frozen it is where the launcher put this runtime (root/runtime/KEY/bin/llamafile), which
    may be a fallback of its own; otherwise platformdirs' user cache.
    """
    if is_frozen():
        parents = Path(sys.executable).resolve().parents
        if len(parents) > 3 and parents[2].name == "runtime":
            return parents[3]
    from platformdirs import user_cache_path

    return user_cache_path("llamafile-build", appauthor=False)


def host_target() -> Target:
    """The target of this process; under Rosetta that is Intel, whose libraries it must load.

    Raises RuntimeFailure on a machine that no file can run on.
    """
    machine = platform.machine() if os.name == "nt" else os.uname().machine
    system = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}.get(sys.platform, "")
    name = host_target_name(system, machine)
    if name is None:
        raise RuntimeFailure(
            f"this machine ({sys.platform}, {machine}) is none that a built file runs on; "
            f"it would have to be one of {', '.join(TARGETS)}"
        )
    return TARGETS[name]
