"""Small built files, made by Python's own zipfile: an oracle that knows nothing of the builder."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

HEAD_SIZE = 0x10000
EPOCH = (1980, 1, 1, 0, 0, 0)


def native_pack(files: dict[str, bytes]) -> bytes:
    """A tar.gz as docs/format.md asks for: flat, sorted, regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o755, 315532800
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_archive(
    path: Path,
    members: dict[str, bytes],
    *,
    config: dict[str, Any] | None = None,
    manifest: dict[str, Any] | None = None,
) -> Path:
    """Write a file with the given members, config.json and a manifest that is true of them."""
    head = b"#!/bin/sh\n# a launcher would be here\n".ljust(HEAD_SIZE, b"\n")
    members = {**members, "config.json": json.dumps(config or {}).encode()}
    with path.open("wb") as out, zipfile.ZipFile(out, "w") as archive:
        out.write(head)
        records = []
        for name, data in sorted(members.items(), key=lambda item: item[0].startswith("model/")):
            records.append(_add(out, archive, name, data))
        model = next((name for name in members if name.startswith("model/")), "model/none.gguf")
        document = {
            "format_version": 1,
            "name": "Test",
            "description": None,
            "builder_version": "0",
            "python_version": "3.11",
            "llama_cpp_version": "v0",
            "targets": ["linux-x64"],
            "head": {"size": HEAD_SIZE, "sha256": hashlib.sha256(head).hexdigest()},
            "model": {
                "member": model, "name": "Test", "architecture": "llama", "parameters": 1,
                "quantization": "F32", "context_length": 1, "license": None, "source": None,
            },
            "members": records,
            "components": [],
            **(manifest or {}),
        }  # fmt: skip
        _add(out, archive, "manifest.json", json.dumps(document).encode())
    return path


class _Utf8Info(zipfile.ZipInfo):
    """zipfile sets the UTF-8 flag only where a name needs it; the format wants it everywhere."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode(), self.flag_bits | 0x800


def _add(out: Any, archive: zipfile.ZipFile, name: str, data: bytes) -> dict[str, Any]:
    alignment = 65536 if name.startswith("model/") else 4096 if name.endswith(".tar.gz") else 1
    start = out.tell()
    header = 30 + len(name.encode())
    offset = -(-(start + header) // alignment) * alignment
    out.write(bytes(offset - header - start))
    archive.start_dir = offset - header  # where zipfile puts the next member
    info = _Utf8Info(name, EPOCH)
    info.external_attr, info.create_version, info.extract_version = 0o100644 << 16, 10, 10
    info.create_system = 3
    archive.writestr(info, data)
    return {
        "name": name, "size": len(data), "offset": offset,
        "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
