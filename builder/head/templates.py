"""Finds the launcher's sources: in an installed package, or beside builder/ in a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from llamafile_build.errors import BuilderError

_PACKAGE = "llamafile_build.launcher_templates"
_CHECKOUT = Path(__file__).resolve().parents[2] / "launcher_templates"


class TemplateError(BuilderError):
    """A part of the launcher is missing from this installation."""


def template(name: str) -> bytes:
    """The bytes of launcher_templates/`name`. Raises TemplateError when it is not there."""
    try:
        return files(_PACKAGE).joinpath(name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        pass
    try:
        return (_CHECKOUT / name).read_bytes()
    except OSError as error:
        raise TemplateError(
            f"this installation lacks launcher_templates/{name}: install llamafile-build again"
        ) from error
