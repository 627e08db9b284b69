"""Putting the parts together: an engine and a server from an archive and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .archive import Archive
from .engine.engine import Engine
from .engine.loading import EngineOptions
from .errors import RuntimeFailure
from .locate import cache_root, host_target
from .native.pack import unpack_native
from .outside import Choice, outside_model, packed_model
from .settings import Settings, from_config, sampling_params


@dataclass(frozen=True)
class Start:
    """One start of a built file: the model that it will run, and how."""

    archive: Archive
    choice: Choice
    settings: Settings


def prepare(archive: Archive, asked: Settings) -> Start:
    """Choose the model and merge the settings. Raises RuntimeFailure subclasses."""
    if asked.model is None:
        choice = packed_model(archive)
    else:
        choice = outside_model(asked.model, archive.config)
    return Start(archive, choice, asked.over(from_config(choice.config)))


def make_engine(start: Start, note: Callable[[str], None]) -> Engine:
    """An engine that has not begun to load. ``note`` is told what the user should know."""
    archive, settings = start.archive, start.settings
    defaults = sampling_params(settings)
    defaults.check()

    def libraries() -> Path:
        return unpack_native(archive, native_member(archive), cache_root(), note)

    return Engine(
        EngineOptions(
            weights=start.choice.weights,
            libraries=libraries,
            defaults=defaults,
            name=start.choice.name,
            license=start.choice.license,
            context=settings.context,
            threads=settings.threads,
            chat_template=start.choice.config.chat_template,
            system_prompt=settings.system_prompt,
            use_mmap=settings.use_mmap is not False,
            verbose=bool(settings.verbose),
            note=note,
        )
    )


def native_member(archive: Archive) -> str:
    """The native pack for this machine. Raises RuntimeFailure when the file has none."""
    target = host_target()
    if archive.manifest.member(target.native_member) is None:
        raise RuntimeFailure(
            f"{archive.name} was built for {', '.join(archive.manifest.targets)}, but this machine "
            f"is {target.name}: build it again with --target {target.name}"
        )
    return target.native_member


def serve_file(start: Start, say: Callable[[str], None], note: Callable[[str], None]) -> int:
    """Serve until Ctrl-C; gives the exit code. Raises ServeError."""
    from .web.instance import instance_key
    from .web.serve import ServedFile, ServeOptions, serve

    archive, settings = start.archive, start.settings
    file = ServedFile(
        name=start.choice.name or start.choice.weights.path.stem,
        version=archive.manifest.builder_version,
        description=archive.manifest.description,
    )
    # A server that runs already is used only if it gives the answers that are asked for now.
    key = instance_key(archive.path, replace(settings, browser=None, verbose=None))
    options = ServeOptions(
        host=settings.host or "127.0.0.1",
        port=settings.port,
        browser=settings.browser is not False,
        state_file=cache_root() / "run" / f"{key}.json",
    )
    return serve(lambda: make_engine(start, note), file, options, say)
