"""config.json: the defaults that a built file starts with (docs/format.md, section 5).

Every field is optional: None means that the runtime's own default holds. The command line of
the built file overrides each of them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from .jsonrecord import RecordError, optional


@dataclass(frozen=True)
class SamplingDefaults:
    """How the next token is chosen; names and meanings as llama.cpp's options have them."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class ServerDefaults:
    """``context`` in tokens, ``threads`` a count, ``port`` 1 to 65535."""

    host: str | None = None
    port: int | None = None
    context: int | None = None
    threads: int | None = None
    browser: bool | None = None


@dataclass(frozen=True)
class PackedConfig:
    """What the builder's user packed beside the model."""

    system_prompt: str | None = None
    chat_template: str | None = None
    sampling: SamplingDefaults = SamplingDefaults()
    server: ServerDefaults = ServerDefaults()


_SAMPLING_TYPES: dict[str, type] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repeat_penalty": float,
    "seed": int,
    "max_tokens": int,
}
_SERVER_TYPES: dict[str, type] = {
    "host": str,
    "port": int,
    "context": int,
    "threads": int,
    "browser": bool,
}
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_k": (0, 1 << 30),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repeat_penalty": (0, 100),
    "seed": (-1, 0xFFFF_FFFF),
    "max_tokens": (-1, 1 << 30),
    "port": (0, 65535),
    "context": (0, 1 << 30),
    "threads": (1, 1024),
}


def config_to_json(config: PackedConfig) -> bytes:
    """Canonical UTF-8 JSON without the fields that are None."""
    data = {
        key: {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
        for key, value in asdict(config).items()
        if value is not None
    }
    return json.dumps(data, ensure_ascii=False, indent=2, sort_keys=True).encode() + b"\n"


def config_from_json(text: bytes) -> PackedConfig:
    """Parse config.json. Raises RecordError naming the field at fault."""
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"config.json is not valid JSON: {error}") from error
    return config_from_dict(data, "config.json")


def config_from_dict(data: object, where: str) -> PackedConfig:
    """A config from a parsed JSON or TOML document.

    ``where`` names the document in messages. Raises RecordError for an unknown field, a wrong
    type or a value out of range, so that a misspelt option is never silently ignored.
    """
    _refuse_unknown(data, {item.name for item in fields(PackedConfig)}, where)
    return PackedConfig(
        system_prompt=optional(data, "system_prompt", str, where),
        chat_template=optional(data, "chat_template", str, where),
        sampling=SamplingDefaults(**_section(data, "sampling", _SAMPLING_TYPES, where)),
        server=ServerDefaults(**_section(data, "server", _SERVER_TYPES, where)),
    )


def _section(data: object, name: str, types: dict[str, type], where: str) -> dict[str, Any]:
    section = optional(data, name, dict, where) or {}
    _refuse_unknown(section, set(types), f"{where}: {name}")
    values = {key: optional(section, key, kind, f"{where}: {name}") for key, kind in types.items()}
    for key, value in values.items():
        low, high = _RANGES.get(key, (0, 0))
        if value is not None and key in _RANGES and not low <= value <= high:
            raise RecordError(f"{where}: {name}: {key!r} must be between {low} and {high}")
    return values


def _refuse_unknown(data: object, known: set[str], where: str) -> None:
    if not isinstance(data, dict):
        raise RecordError(f"{where} must be an object")
    unknown = sorted(set(data) - known)
    if unknown:
        raise RecordError(
            f"{where} has an unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}"
        )
