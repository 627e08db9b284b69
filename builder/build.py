"""One build, from a request to a checked file: the stages in the order in which they happen."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from llamafile_runtime.format.config import PackedConfig, config_to_json
from llamafile_runtime.format.layout import (
    CONFIG_NAME,
    HEAD_SIZE,
    MODEL_ALIGNMENT,
    MODEL_PREFIX,
    PACK_ALIGNMENT,
)
from llamafile_runtime.format.manifest import (
    HeadRecord,
    Manifest,
    MemberRecord,
    ModelRecord,
    manifest_to_json,
)
from llamafile_runtime.format.targets import Target, boot_key

from . import __version__
from .archive.layout import Placed, Planned, place
from .archive.writer import (
    MemberSource,
    bytes_member,
    file_member,
    replacing,
    sha256_hex,
    write_archive,
)
from .console import Console, human_size
from .errors import BuilderError, UsageError
from .head import BootEntry, render_head, windows_launcher
from .model.preflight import Preflight, check_model
from .model.source import ModelInput, open_model
from .parts import Parts, gather_parts
from .summary import needs_windows_launcher
from .verify import verify_archive


@dataclass(frozen=True)
class BuildRequest:
    """What the user asked for. ``model`` and ``output`` have defaults when they are None."""

    model: str | None
    output: Path | None
    targets: tuple[Target, ...]
    config: PackedConfig = field(default_factory=PackedConfig)
    name: str | None = None
    description: str | None = None
    license: str | None = None
    force: bool = False
    offline: bool = False
    verify: bool = True


@dataclass(frozen=True)
class BuildResult:
    """What was written. Sizes in bytes; ``seconds`` is the time for writing and checking."""

    output: Path
    size: int
    model_bytes: int
    model_name: str
    architecture: str
    parameters: int
    quantization: str
    context: int
    memory: int
    targets: tuple[str, ...]
    seconds: float
    windows_launcher: Path | None


def build(request: BuildRequest, console: Console) -> BuildResult:
    """Make one file. Raises BuilderError; then nothing new is left on disk but cached parts."""
    model = open_model(request.model, console, offline=request.offline)
    request = _with_defaults(request, model)
    preflight = check_model(model, request.config)
    for warning in preflight.warnings:
        console.warn(warning)
    output = _output_path(request, model)
    parts = gather_parts(request.targets, console, offline=request.offline)
    started = time.monotonic()
    members = _members(request, model, parts)
    targets = tuple(target.name for target in request.targets)
    head = _head(members, parts, preflight.name, targets)
    size = _expected_size(members)
    launcher = _launcher_path(request, output, size)
    _check_room(output, size)

    def make_manifest(records: tuple[MemberRecord, ...]) -> bytes:
        return manifest_to_json(_manifest(request, model, preflight, parts, head, records))

    with replacing(output) as (out, temporary):
        with console.progress(f"Writing {output.name}", size) as advance:
            records = write_archive(out, head, members, make_manifest, advance)
        _check_packs(parts, records)
        if request.verify:
            with (
                ThreadPoolExecutor(1) as pool,
                console.progress(f"Checking {output.name}", size) as advance,
            ):
                flushing = pool.submit(os.fsync, out.fileno())
                verify_archive(temporary, advance, models_by_crc=True)
                flushing.result()
    if launcher:
        with replacing(launcher) as (out, _):
            out.write(windows_launcher())
    return BuildResult(
        output=output,
        size=output.stat().st_size,
        model_bytes=model.size,
        model_name=preflight.name,
        architecture=preflight.architecture,
        parameters=preflight.parameters,
        quantization=preflight.quantization,
        context=preflight.context,
        memory=preflight.memory.total,
        targets=targets,
        seconds=time.monotonic() - started,
        windows_launcher=launcher,
    )


def _with_defaults(request: BuildRequest, model: ModelInput) -> BuildRequest:
    """The request with what suits a named model, where the user said nothing."""
    if request.config.system_prompt is not None or model.system_prompt is None:
        return request
    return replace(request, config=replace(request.config, system_prompt=model.system_prompt))


def _output_path(request: BuildRequest, model: ModelInput) -> Path:
    default = f"{Path(model.name).stem}.llamafile"
    output = request.output or Path(default)
    if output.is_dir():
        output = output / default
    if not output.parent.is_dir():
        raise UsageError(f"the folder {output.parent} does not exist")
    if output.exists() and any(path.exists() and output.samefile(path) for path in model.paths):
        raise UsageError(f"{output} is the model itself; choose another output with -o")
    _refuse_existing(output, request.force)
    return output


def _refuse_existing(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise UsageError(f"{path} exists; use --force to replace it, or choose another with -o")


def _launcher_path(request: BuildRequest, output: Path, size: int) -> Path | None:
    if not needs_windows_launcher(size, tuple(target.name for target in request.targets)):
        return None
    if output.suffix.lower() == ".exe":
        raise UsageError(
            f"the file will have {human_size(size)}, but Windows starts no .exe over 4 GiB: "
            "name it .llamafile, then a small .exe is written beside it"
        )
    launcher = output.with_suffix(".exe")
    _refuse_existing(launcher, request.force)
    return launcher


def _members(request: BuildRequest, model: ModelInput, parts: Parts) -> list[MemberSource]:
    packs = [*parts.runtime_packs, *parts.native_packs]
    return [
        *(file_member(pack.member, pack.path, PACK_ALIGNMENT) for pack in packs),
        *(bytes_member(name, text) for name, text in parts.licenses),
        bytes_member(CONFIG_NAME, config_to_json(request.config)),
        MemberSource(Planned(MODEL_PREFIX + model.name, model.size, MODEL_ALIGNMENT), model.open),
    ]


def _head(members: list[MemberSource], parts: Parts, title: str, targets: tuple[str, ...]) -> bytes:
    offsets = {spot.name: spot.data_offset for spot in _places(members)}
    boot = {
        boot_key(pack.name): BootEntry(offsets[pack.member], pack.size, pack.sha256)
        for pack in parts.runtime_packs
    }
    return render_head(boot, title=title, targets=targets)


def _manifest(
    request: BuildRequest,
    model: ModelInput,
    preflight: Preflight,
    parts: Parts,
    head: bytes,
    records: tuple[MemberRecord, ...],
) -> Manifest:
    return Manifest(
        name=request.name or preflight.name,
        description=request.description,
        builder_version=__version__,
        python_version=parts.python_version,
        llama_cpp_version=parts.llama_cpp_version,
        targets=tuple(target.name for target in request.targets),
        head=HeadRecord(len(head), sha256_hex(head)),
        model=ModelRecord(
            member=MODEL_PREFIX + model.name,
            name=preflight.name,
            architecture=preflight.architecture,
            parameters=preflight.parameters,
            quantization=preflight.quantization,
            context_length=preflight.trained_context,
            license=request.license or preflight.license,
            source=model.source,
        ),
        members=records,
        components=parts.components,
    )


def _check_packs(parts: Parts, records: tuple[MemberRecord, ...]) -> None:
    """The cached packs must be what their notes say; one that is not is dropped."""
    written = {record.name: record.sha256 for record in records}
    for pack in (*parts.runtime_packs, *parts.native_packs):
        if written[pack.member] != pack.sha256:
            pack.path.unlink(missing_ok=True)
            raise BuilderError(
                f"the cached pack {pack.name} was damaged and is removed: build again"
            )


def _places(members: list[MemberSource]) -> tuple[Placed, ...]:
    return place([member.planned for member in members], HEAD_SIZE)


def _expected_size(members: list[MemberSource]) -> int:
    directory = 4096 + 512 * len(members)  # a generous guess for manifest and directory
    return _places(members)[-1].end + directory


def _check_room(output: Path, size: int) -> None:
    free = shutil.disk_usage(output.parent).free
    if free < size:
        raise BuilderError(
            f"{output.parent} has {human_size(free)} free, but the file needs {human_size(size)}"
        )
