"""What a built file holds, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from .archive import Archive
from .errors import ArchiveError
from .format.gguf import GGUF, GGUFError, read_gguf
from .format.targets import TARGETS

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_HIDDEN_KEYS = ("tokenizer.chat_template",)  # long texts; --json has them
_WIDEST = 100


@dataclass(frozen=True)
class _Model:
    member: str
    size: int
    header: GGUF


def describe(archive: Archive) -> str:
    """A page for people. Raises ArchiveError when the model's header cannot be read."""
    manifest, model = archive.manifest, _model(archive)
    header = model.header
    lines = [
        manifest.name,
        *([manifest.description] if manifest.description else []),
        "",
        f"File        {archive.path}, {_size(archive.size)}, format {manifest.format_version}",
        f"Built by    llamafile-build {manifest.builder_version}, "
        f"llama.cpp {manifest.llama_cpp_version}, Python {manifest.python_version}",
        f"Runs on     {', '.join(_title(name) for name in manifest.targets)}",
        "",
        f"Model       {model.member}, {_size(model.size)}",
        f"            {header.architecture}, {_count(header.parameters)} parameters, "
        f"{header.quantization}, context {header.context_length:,}",
        f"License     {manifest.model.license or 'not stated'}",
        "",
        "Members",
        *(f"  {_size(m.size):>10}  {m.name}" for m in archive.members),
        "",
        "Components",
        *(f"  {c.name} {c.version} ({c.license}): {c.purpose}" for c in manifest.components),
        "",
        "Metadata of the model",
        *(
            f"  {key} = {_shown(value)}"
            for key, value in header.metadata.items()
            if key not in _HIDDEN_KEYS
        ),
    ]
    return "\n".join(lines)


def describe_json(archive: Archive) -> str:
    """The manifest, the configuration and the model's metadata as one JSON document."""
    model = _model(archive)
    header = model.header
    document: dict[str, Any] = {
        "file": str(archive.path),
        "size": archive.size,
        "manifest": asdict(archive.manifest),
        "config": asdict(archive.config),
        "model": {
            "member": model.member,
            "size": model.size,
            "gguf_version": header.version,
            "architecture": header.architecture,
            "parameters": header.parameters,
            "quantization": header.quantization,
            "context_length": header.context_length,
            "license": header.license,
            "tensors": len(header.tensors),
            "metadata": {key: _plain(value) for key, value in header.metadata.items()},
        },
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _model(archive: Archive) -> _Model:
    record = archive.record(archive.manifest.model.member)
    try:
        with archive.path.open("rb") as file:
            header = read_gguf(file, offset=record.offset, size=record.size)
    except GGUFError as error:
        raise ArchiveError(f"the model {record.name} is damaged: {error}") from error
    return _Model(record.name, record.size, header)


def _plain(value: object) -> Any:
    return value if isinstance(value, (int, float, bool, str)) else asdict(value)  # type: ignore[call-overload]


def _shown(value: object) -> str:
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
    if isinstance(value, (int, float, bool)):
        return str(value)
    return f"[{value.length:,} values]"  # type: ignore[attr-defined]


def _title(name: str) -> str:
    return TARGETS[name].title if name in TARGETS else name


def _size(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def _count(number: int) -> str:
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)
