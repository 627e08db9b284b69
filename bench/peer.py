"""The peer: llama-server of the llama.cpp release whose libraries the built files carry.

    python bench/peer.py

builds it from source for this machine, once, and prints its path. The source is a git bundle in an
npm package; the result stays in the user's cache. Needs git, CMake and a C++ compiler.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tarfile
from pathlib import Path

from llamafile_build.components import Component, ComponentStore, load_lock
from llamafile_build.console import Console
from llamafile_build.parts import cache_root

VERSION = "v0.4.0"
SOURCE = Component(
    id="llama-cpp-source",
    registry="npm",
    name="node-llama-cpp",
    version="3.21.1",
    file="node-llama-cpp-3.21.1.tgz",
    size=35413592,
    sha256="7a231d6bafa14142a1cbed9893d4ec5bc6041b2a5f5939a623accaab4203c11f",
    license="MIT",
    upstream=VERSION,
    purpose="peer in benchmarks",
)
BUNDLE = "package/llama/gitRelease.bundle"
CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    # Without what needs a network to build or OpenSSL to link; none of it runs in a benchmark.
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
)

# GCC 12.2 tells its optimizer that _tile_loadconfig reads 8 of the configuration's 64 bytes, so
# that stores to the others may go: llama-server then crashes on processors with AMX (llama.cpp's
# pull request 26954 describes it).
AMX_FIX = """\
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(config) \\
    __asm__ volatile("ldtilecfg %0" : : "m"(*(const char(*)[64])(config)))
#endif
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="compilers at a time [default: 1]")
    options = parser.parse_args()
    print(llama_server(jobs=options.jobs))


def llama_server(jobs: int = 1) -> Path:
    """The path of llama-server, built if need be. Raises BuilderError or CalledProcessError."""
    check_version()
    folder = cache_root() / "bench" / f"llama.cpp-{VERSION}"
    program = folder / "build" / "bin" / "llama-server"
    if program.exists():
        return program
    store = ComponentStore(cache_root() / "components", Console().progress)
    store.ensure([SOURCE])
    check_out(store.path(SOURCE), folder)
    fix = folder / "amx-fix.h"
    fix.write_text(AMX_FIX, encoding="ascii")
    flags = f"-DCMAKE_CXX_FLAGS=-include {fix}"
    configure = ["cmake", "-S", str(folder), "-B", str(folder / "build"), *CMAKE_OPTIONS, flags]
    build = ["cmake", "--build", str(folder / "build"), "--target", "llama-server"]
    subprocess.run(configure, check=True)
    subprocess.run([*build, "--parallel", str(jobs)], check=True)
    return program


def check_version() -> None:
    """A peer of another release would compare llama.cpp with itself."""
    bundled = {component.upstream for component in load_lock().components if component.upstream}
    if bundled != {VERSION}:
        raise SystemExit(f"lock.toml has llama.cpp {bundled}, bench/peer.py {VERSION}: raise it")


def check_out(package: Path, folder: Path) -> None:
    """Clone the bundle that the npm package holds into ``folder``, unless it is there."""
    if (folder / "CMakeLists.txt").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bundle = folder.with_name(f"{folder.name}.bundle")
    with tarfile.open(package, "r:gz") as archive:
        member = archive.extractfile(BUNDLE)
        assert member is not None
        with bundle.open("wb") as file:
            shutil.copyfileobj(member, file)
    subprocess.run(["git", "clone", "-q", str(bundle), str(folder)], check=True)
    bundle.unlink()


if __name__ == "__main__":
    main()
