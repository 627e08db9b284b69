"""Raise builder/model/architectures.txt: the model architectures that the pinned engine loads.

The list is read from llama.cpp's own table (src/llama-arch.cpp, LLM_ARCH_NAMES) in a source tree
of the pinned version: a clone of the member ``llama/gitRelease.bundle`` of the npm package
``node-llama-cpp`` whose version is that of the native packs.

    python ci/architectures.py SOURCE_TREE [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

LIST = Path(__file__).parent.parent / "builder" / "model" / "architectures.txt"
NOT_LOADABLE = {"clip", "(unknown)"}  # llama.cpp keeps them for its own tools


def architectures(source_tree: Path) -> list[str]:
    """The names in LLM_ARCH_NAMES, sorted. Raises ValueError when the table is not found."""
    text = (source_tree / "src" / "llama-arch.cpp").read_text(encoding="utf-8")
    table = re.search(r"LLM_ARCH_NAMES = \{(.*?)\n\};", text, re.DOTALL)
    if not table:
        raise ValueError("LLM_ARCH_NAMES was not found in src/llama-arch.cpp")
    names = set(re.findall(r'\{\s*LLM_ARCH_\w+,\s*"([^"]+)"\s*\}', table[1]))
    return sorted(names - NOT_LOADABLE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source_tree", type=Path)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    options = parser.parse_args()
    text = "\n".join(architectures(options.source_tree)) + "\n"
    if options.check:
        same = LIST.read_text(encoding="utf-8") == text
        print("architectures.txt is up to date" if same else "architectures.txt is out of date")
        return 0 if same else 1
    LIST.write_text(text, encoding="utf-8")
    print(f"wrote {LIST.name}: {text.count(chr(10))} architectures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
