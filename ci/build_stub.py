"""Compiles the Windows launcher and compares it with the prebuilt one.

    python ci/build_stub.py            make it again; exit 1 when a byte differs from the pinned one
    python ci/build_stub.py --update   make it again and pin the result
    python ci/build_stub.py -o FILE    only write it to FILE

After a change of launcher_templates/stub.c or inflate.zig run --update and commit the result.
Raising the compiler: change COMPILER here and the `ziglang` pin in pyproject.toml, then --update.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from llamafile_build.head import pe
from llamafile_build.head.stub import PIN_NAME, SOURCES, STUB_NAME, StubPin, source_hashes
from llamafile_build.head.templates import template

COMPILER = "0.17.1"
HEAD_FOLDER = Path(__file__).resolve().parents[1] / "builder" / "head"
TARGET = ("-target", "x86_64-windows-gnu", "-mcpu", "x86_64")


def zig(folder: Path, *arguments: str) -> None:
    """Runs the pinned compiler in `folder`, so that no other path gets into its output."""
    subprocess.run([sys.executable, "-m", "ziglang", *arguments], cwd=folder, check=True)


def compile_stub() -> bytes:
    """The launcher program, compiled from launcher_templates/ in an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in SOURCES:
            (folder / source).write_bytes(template(source))
        # fmt: off
        zig(folder, "cc", "-target", "x86_64-windows-gnu", "-mcpu=x86_64", "-std=c11", "-Os",
            "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-stack-protector",
            "-c", "stub.c", "-o", "stub.obj")
        zig(folder, "build-obj", "inflate.zig", *TARGET, "-O", "ReleaseSmall", "-fstrip",
            "-femit-bin=inflate.obj")
        # No compiler-rt: stub.c has the four functions that are called, at a fiftieth of its size.
        zig(folder, "build-exe", "stub.obj", "inflate.obj", *TARGET, "-O", "ReleaseSmall",
            "-fstrip", "-fno-compiler-rt", "--gc-sections", "--subsystem", "console",
            "-fentry=launcher_start", "-lkernel32", "--name", "stub")
        # fmt: on
        return pe.canonical((folder / "stub.exe").read_bytes())


def pin_for(program: bytes) -> StubPin:
    """The pin that describes `program`, compiled just now."""
    digest = hashlib.sha256(program).hexdigest()
    return StubPin(f"ziglang {COMPILER}", source_hashes(), digest, len(program))


def main() -> int:
    """Compares, pins or writes; the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="pin what was compiled")
    parser.add_argument("-o", "--output", type=Path, help="write the program here and stop")
    options = parser.parse_args()
    if version("ziglang") != COMPILER:
        print(f"ziglang {COMPILER} is needed, {version('ziglang')} is installed", file=sys.stderr)
        return 1
    program = compile_stub()
    pin = pin_for(program)
    if options.output:
        options.output.write_bytes(program)
    elif options.update:
        (HEAD_FOLDER / STUB_NAME).write_bytes(program)
        (HEAD_FOLDER / PIN_NAME).write_bytes(pin.to_json())
    elif (HEAD_FOLDER / PIN_NAME).read_bytes() != pin.to_json() or (
        HEAD_FOLDER / STUB_NAME
    ).read_bytes() != program:
        print(f"{STUB_NAME} is not what its sources compile to; see --update", file=sys.stderr)
        return 1
    print(f"{STUB_NAME}: {pin.size} bytes, sha256 {pin.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
