"""manifest.json: what is in the file, and the SHA-256 of every member (docs/format.md, 4)."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from .jsonrecord import RecordError, field, optional, strings
from .layout import FORMAT_VERSION

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class MemberRecord:
    """One member: ``size`` in bytes, ``offset`` of its data from byte 0 of the file."""

    name: str
    size: int
    offset: int
    sha256: str


@dataclass(frozen=True)
class ComponentRecord:
    """A third-party part that went into the file. ``license`` is an SPDX expression."""

    name: str
    version: str
    registry: str
    sha256: str
    license: str
    purpose: str


@dataclass(frozen=True)
class HeadRecord:
    """The launcher: the file's first ``size`` bytes."""

    size: int
    sha256: str


@dataclass(frozen=True)
class ModelRecord:
    """What the GGUF said of itself when the file was built."""

    member: str
    name: str
    architecture: str
    parameters: int
    quantization: str
    context_length: int
    license: str | None
    source: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The whole manifest. ``members`` lists every member but the manifest itself."""

    name: str
    description: str | None
    builder_version: str
    python_version: str
    llama_cpp_version: str
    targets: tuple[str, ...]
    head: HeadRecord
    model: ModelRecord
    members: tuple[MemberRecord, ...]
    components: tuple[ComponentRecord, ...]
    format_version: int = FORMAT_VERSION

    def member(self, name: str) -> MemberRecord | None:
        """The record of a member, or None."""
        return next((member for member in self.members if member.name == name), None)


def manifest_to_json(manifest: Manifest) -> bytes:
    """Canonical UTF-8 JSON: sorted keys, two-space indent, one newline at the end."""
    return (
        json.dumps(asdict(manifest), ensure_ascii=False, indent=2, sort_keys=True).encode() + b"\n"
    )


def manifest_from_json(text: bytes) -> Manifest:
    """Parse and check a manifest.

    Raises RecordError when it is no JSON, lacks a field, or has a newer format version.
    """
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"manifest.json is not valid JSON: {error}") from error
    where = "manifest.json"
    version = field(data, "format_version", int, where)
    if version != FORMAT_VERSION:
        raise RecordError(
            f"manifest.json has format version {version}; this program reads {FORMAT_VERSION}"
        )
    head = field(data, "head", dict, where)
    return Manifest(
        name=field(data, "name", str, where),
        description=optional(data, "description", str, where),
        builder_version=field(data, "builder_version", str, where),
        python_version=field(data, "python_version", str, where),
        llama_cpp_version=field(data, "llama_cpp_version", str, where),
        targets=strings(data, "targets", where),
        head=HeadRecord(_size(head, "size", f"{where}: head"), _sha256(head, f"{where}: head")),
        model=_model(field(data, "model", dict, where)),
        members=tuple(_member(item) for item in field(data, "members", list, where)),
        components=tuple(_component(item) for item in field(data, "components", list, where)),
        format_version=version,
    )


def _member(data: object) -> MemberRecord:
    where = "manifest.json: members"
    return MemberRecord(
        name=field(data, "name", str, where),
        size=_size(data, "size", where),
        offset=_size(data, "offset", where),
        sha256=_sha256(data, where),
    )


def _component(data: object) -> ComponentRecord:
    where = "manifest.json: components"
    return ComponentRecord(
        name=field(data, "name", str, where),
        version=field(data, "version", str, where),
        registry=field(data, "registry", str, where),
        sha256=_sha256(data, where),
        license=field(data, "license", str, where),
        purpose=field(data, "purpose", str, where),
    )


def _model(data: object) -> ModelRecord:
    where = "manifest.json: model"
    return ModelRecord(
        member=field(data, "member", str, where),
        name=field(data, "name", str, where),
        architecture=field(data, "architecture", str, where),
        parameters=_size(data, "parameters", where),
        quantization=field(data, "quantization", str, where),
        context_length=_size(data, "context_length", where),
        license=optional(data, "license", str, where),
        source=optional(data, "source", str, where),
    )


def _size(data: object, name: str, where: str) -> int:
    value = field(data, name, int, where)
    if not 0 <= value < 1 << 63:
        raise RecordError(f"{where}: {name!r} is out of range")
    return value


def _sha256(data: object, where: str) -> str:
    value = field(data, "sha256", str, where)
    if not _SHA256.fullmatch(value):
        raise RecordError(f"{where}: 'sha256' must be 64 hexadecimal digits")
    return value
