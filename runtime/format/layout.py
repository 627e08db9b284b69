"""Offsets and names of the file format (docs/format.md, sections 2 and 3)."""

from __future__ import annotations

FORMAT_VERSION = 1
"""Raised when a reader of the old number could not read the new file."""

HEAD_SIZE = 0x10000
"""Bytes before the first ZIP member: the launcher (shell script and, with Windows, PE stub)."""

PACK_ALIGNMENT = 0x1000
"""Packs start on 4 KiB, so that ``dd bs=4096 skip=…`` reaches them without reading the rest."""

MODEL_ALIGNMENT = 0x10000
"""Models start on 64 KiB: Windows maps files at that granularity, others at 4 or 16 KiB."""

MANIFEST_NAME = "manifest.json"
CONFIG_NAME = "config.json"
MODEL_PREFIX = "model/"
LICENSE_PREFIX = "licenses/"

WINDOWS_MAX_EXE = 0xFFFF_FFFF
"""Windows refuses to start an executable file larger than this many bytes (4 GiB - 1)."""
