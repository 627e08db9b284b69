"""Where a runtime pack's binary parts lie: the host executable, extension modules, libraries."""

from __future__ import annotations

from ..components import Component, ComponentStore, Lock
from .packfile import PackEntry

_LIBRARY_DAT = PackEntry("bin/lib/library.dat", b"library.zip")


def host_entries(pack: str, python: str, lock: Lock, store: ComponentStore) -> list[PackEntry]:
    """The binary entries of a runtime pack, and library.dat, which names the library."""
    entries = [_LIBRARY_DAT]
    for component in host_components(pack, python, lock):
        for member in component.members:
            path = _place(member.path, windows=pack.startswith("windows"))
            if path:
                entries.append(PackEntry(path, store.read(component, member.path), True))
    return entries


def host_components(pack: str, python: str, lock: Lock) -> list[Component]:
    """The components that a runtime pack's binary parts come from."""
    ids = [f"host-{pack}-{python.replace('.', '')}"]
    if pack.startswith("windows"):
        ids += [f"{name}-{python.replace('.', '')}" for name in (f"python-{pack}", "msvc-runtime")]
    return [lock.component(component_id) for component_id in ids]


def _place(member: str, *, windows: bool) -> str | None:
    folder, _, name = member.rpartition("/")
    if folder == "freeze_core/bases":
        return "bin/llamafile.exe" if windows else "bin/llamafile"
    if folder == "freeze_core/lib":
        return f"bin/lib/{name}"
    if folder == "freeze_core.libs":
        # The extension modules' RPATH is $ORIGIN/../../freeze_core.libs.
        return member
    if folder == "freeze_core/bases/lib":
        # The host asks for @loader_path/lib/Python, _hashlib for
        # @loader_path/../bases/lib/libcrypto.
        return "bin/lib/Python" if name == "Python" else f"bin/bases/lib/{name}"
    if folder == "deploy_libs":
        # The loader looks for python3XX.dll beside the executable.
        return f"bin/{name}" if name.startswith("python") else f"bin/lib/{name}"
    if folder.endswith("/Scripts"):
        return f"bin/{name}"
    return None
