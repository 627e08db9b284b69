"""What the built file starts with: the --config file, overridden by the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llamafile_runtime.format.config import PackedConfig, config_from_dict
from llamafile_runtime.format.jsonrecord import RecordError

from .errors import UsageError

_TEXT_FILES = {"system_prompt_file": "system_prompt", "chat_template_file": "chat_template"}


def read_config_file(path: Path) -> PackedConfig:
    """Read a TOML config file.

    ``system_prompt_file`` and ``chat_template_file`` name text files, relative to the config
    file. Raises UsageError naming the file and the field at fault.
    """
    try:
        data = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    for key, field in _TEXT_FILES.items():
        if key in data:
            if field in data:
                raise UsageError(f"{path} has both {key} and {field}; keep one of them")
            data[field] = read_text(path.parent / str(data.pop(key)))
    try:
        return config_from_dict(data, str(path))
    except RecordError as error:
        raise UsageError(str(error)) from error


def override(config: PackedConfig, options: Mapping[str, Any]) -> PackedConfig:
    """The config with command line options in it; an option that is None changes nothing.

    ``options`` has the field names of PackedConfig, SamplingDefaults and ServerDefaults. Raises
    UsageError when a value is out of range.
    """
    data = asdict(config)
    for section in (data, data["sampling"], data["server"]):
        for key in section:
            if options.get(key) is not None:
                section[key] = options[key]
    try:
        return config_from_dict(data, "the command line")
    except RecordError as error:
        raise UsageError(str(error)) from error


def text_or_file(value: str | None) -> str | None:
    """The value of an option that takes a text, or ``@FILE`` for a text file."""
    if value is None or not value.startswith("@"):
        return value
    return read_text(Path(value[1:]))


def read_text(path: Path) -> str:
    """A UTF-8 text file. Raises UsageError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
