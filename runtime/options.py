"""The options of the built file's command line, in llama.cpp's and llamafile's spelling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .settings import Settings

Command = Callable[..., Any]

if TYPE_CHECKING:
    _ParamType = click.ParamType[int | float]  # generic since click 8.2 only
else:
    _ParamType = click.ParamType


class _Number(_ParamType):
    """A number from ``low`` to ``high``; click's own ranges clutter the help."""

    name = "number"

    def __init__(self, kind: type[int] | type[float], low: float, high: float) -> None:
        self._kind, self._low, self._high = kind, low, high

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        try:
            number = self._kind(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        # A NaN fails every comparison, hence the form of this one.
        if not self._low <= number <= self._high:
            self.fail(f"{value} is not between {self._low} and {self._high}", param, ctx)
        return number


_MODEL = (
    click.option(
        "-m", "--model", type=click.Path(path_type=Path), metavar="FILE",
        help="Run the weights of another .gguf or .llamafile.",
    ),
    click.option(
        "-c", "--ctx-size", "context", type=_Number(int, 0, 1 << 30), metavar="N",
        help="Context in tokens; 0 takes the model's own. [default: at most 8192]",
    ),
    click.option(
        "-t", "--threads", type=_Number(int, 1, 1024), metavar="N",
        help="Threads. [default: physical cores]",
    ),
    click.option(
        "-sys", "--system", "--system-prompt", "system_prompt", metavar="TEXT",
        help="System prompt for chats.",
    ),
    click.option("--no-mmap", is_flag=True, help="Read the weights instead of mapping them."),
    click.option("-v", "--verbose", is_flag=True, help="Show what llama.cpp says."),
)  # fmt: skip

_SAMPLING = (
    click.option(
        "-n", "--n-predict", "--predict", "max_tokens", type=_Number(int, -1, 1 << 30),
        metavar="N", help="At most N tokens; -1: until the model stops.",
    ),
    click.option(
        "--temp", "--temperature", "temperature", type=_Number(float, 0, 100), metavar="T",
        help="Temperature; 0 takes the likeliest token. [default: 0.8]",
    ),
    click.option(
        "--top-k", type=_Number(int, 0, 1 << 30), metavar="K",
        help="Choose among the K likeliest; 0: all. [default: 40]",
    ),
    click.option(
        "--top-p", type=_Number(float, 0, 1), metavar="P",
        help="… among those that make up P together. [default: 0.95]",
    ),
    click.option(
        "--min-p", type=_Number(float, 0, 1), metavar="P",
        help="… among those at least P times as likely as the first. [default: 0.05]",
    ),
    click.option(
        "--repeat-penalty", type=_Number(float, 0, 100), metavar="X",
        help="Divide the chances of repetition; 1: off. [default: 1]",
    ),
    click.option(
        "-s", "--seed", type=_Number(int, -1, 0xFFFF_FFFF), metavar="N",
        help="Seed of the choice; -1: a new one each time.",
    ),
)  # fmt: skip

_SERVER = (
    click.option("--host", metavar="ADDRESS", help="Listen there. [default: 127.0.0.1]"),
    click.option(
        "--port", type=_Number(int, 0, 65535), metavar="N",
        help="Listen there; 0 takes any. [default: first free from 8080]",
    ),
    click.option(
        "--browser/--no-browser", " /--nobrowser", "browser", default=None,
        help="Open the browser. [default: yes]",
    ),
)  # fmt: skip

# What other programs of the kind take and this one needs no telling of: scripts go on working.
_ACCEPTED = (
    click.option("-ngl", "--n-gpu-layers", "--gpu-layers", "_gpu_layers", hidden=True),
    click.option("--mlock", "_mlock", is_flag=True, hidden=True),
    click.option("--log-disable", "_log_disable", is_flag=True, hidden=True),
    click.option("--simple-io", "_simple_io", is_flag=True, hidden=True),
    click.option(
        "--no-display-prompt", "--silent-prompt", "_no_display", is_flag=True, hidden=True
    ),
    click.option("-no-cnv", "--no-conversation", "_no_cnv", is_flag=True, hidden=True),
)


def model_options(command: Command) -> Command:
    """Add the options that say what to run and how; see ``take_settings``."""
    return _add(command, (*_MODEL, *_SAMPLING, *_ACCEPTED))


def server_options(command: Command) -> Command:
    return _add(command, _SERVER)


def take_settings(values: dict[str, Any]) -> Settings:
    """The settings among a command's values, taken out of them."""
    values["use_mmap"] = False if values.pop("no_mmap", False) else None
    values["verbose"] = values.pop("verbose", False) or None
    for name in [name for name in values if name.startswith("_")]:
        del values[name]
    known = Settings.__dataclass_fields__
    return Settings(**{name: values.pop(name) for name in list(values) if name in known})


def _add(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
