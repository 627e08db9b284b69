"""The chat page's files, read from the package wherever it lies: a folder or a zip."""

from __future__ import annotations

import hashlib
import pkgutil
from dataclasses import dataclass
from functools import cache

from .http import Response

_HTML = "text/html; charset=utf-8"
_SCRIPT = "text/javascript; charset=utf-8"

FILES: dict[str, tuple[str, str]] = {
    "/": ("index.html", _HTML),
    "/app.js": ("app.js", _SCRIPT),
    "/api.js": ("api.js", _SCRIPT),
    "/markup.js": ("markup.js", _SCRIPT),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Path → file in ``static/`` and media type. No other path ever reaches the file system."""


@dataclass(frozen=True)
class _File:
    data: bytes
    etag: str


@cache
def _load(name: str) -> _File:
    # pkgutil asks the module's loader, so it also reads from the frozen runtime's library.zip.
    data = pkgutil.get_data(__package__ or __name__.rpartition(".")[0], f"static/{name}")
    if data is None:
        raise FileNotFoundError(name)
    return _File(data, f'"{hashlib.sha256(data).hexdigest()[:20]}"')


def page(path: str, if_none_match: str = "") -> Response:
    """A file of the page, or 304 when the browser's copy is the same. ``path`` is in FILES.

    The browser must ask each time: another built file may serve another page on the same port.
    """
    name, media_type = FILES[path]
    file = _load(name)
    headers = (("ETag", file.etag), ("Cache-Control", "no-cache"))
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    if known & {file.etag, "*"}:
        return Response(304, headers, b"")
    return Response(200, (("Content-Type", media_type), *headers), file.data)
