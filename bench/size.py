"""What a built file holds beside its model, member by member, beside the packages they come from.

    python bench/size.py [FILE]

Without FILE it builds one from the default model, for all targets.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from llamafile_build.components import load_lock
from llamafile_build.pack.make import running_python
from llamafile_runtime.format.targets import TARGETS

LIMIT = 100 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="a built file [default: builds one]")
    options = parser.parse_args()
    if options.file:
        print_sizes(options.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.llamafile"
        command = [sys.executable, "-m", "llamafile_build", "--quiet", "-o", str(file)]
        subprocess.run(command, check=True)
        print_sizes(file)


def print_sizes(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info.compress_size for info in archive.infolist()}
    model = sum(size for name, size in members.items() if name.startswith("model/"))
    total = file.stat().st_size
    print("| member | bytes | packages that it is taken from, bytes |")
    print("| --- | ---: | ---: |")
    for name, size in members.items():
        if name.startswith(("runtime/", "native/")):
            print(f"| {name} | {size:,} | {packages(name):,} |")
    licenses = sum(size for name, size in members.items() if name.startswith("licenses/"))
    rest = total - sum(members.values())
    others = sum(members[name] for name in ("config.json", "manifest.json"))
    print(f"| licenses/* | {licenses:,} | |")
    print(f"| config.json, manifest.json | {others:,} | |")
    print(f"| head, headers, padding, directory | {rest:,} | |")
    over = total - model
    print(f"| **all beside the model** | **{over:,}** | |")
    print(f"\n{over / (1 << 20):.1f} MiB beside the model; the limit is {LIMIT >> 20} MiB")


def packages(member: str) -> int:
    """The packed size of the packages that a member's platform-specific files are taken from."""
    targets = [
        target.name
        for target in TARGETS.values()
        if member in (target.native_member, target.runtime_member)
    ]
    libraries = member.startswith("native/")
    return sum(
        component.size
        for component in load_lock().select(targets, running_python())
        if component.targets and (component.purpose == "llama.cpp libraries") == libraries
    )


if __name__ == "__main__":
    main()
