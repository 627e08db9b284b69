"""Who may talk to the server: the checks that keep other people's web pages out.

A server on 127.0.0.1 is reached by every page that the user's browser shows. Three things keep
those out: no CORS headers are ever sent, so that their scripts cannot read an answer; a request
that does something must come from our own page or from no page at all (Origin); and a name that
an attacker's DNS points at 127.0.0.1 (DNS rebinding) is not one that we answer to (Host).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from .http import ApiError, Headers

BODY_LIMIT = 16 << 20
"""Bytes of a request's body. A prompt that fills a context of a million tokens has about 4 MB."""

SECURITY_HEADERS: Headers = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
"""Sent with every answer. The page's script and style are files of their own, so that the policy
can forbid everything inline: what a model writes can never run."""


_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s,:@\[\]]+)(?::[0-9]+)?")  # RFC 9112, section 3.2


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches a server that listens on ``host`` (name or address)."""
    name = host.removeprefix("[").removesuffix("]")
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """The name in a Host header, without the port; empty when the header is not of that form."""
    match = _HOST.fullmatch(host)
    return match[1] if match else ""


def check(environ: Mapping[str, Any], *, loopback: bool) -> None:
    """Raise ApiError when a request must not be served.

    ``loopback`` says that the server listens on this computer's own address only. Otherwise
    whoever started it chose to be reached by names that are not known here.
    """
    host = environ.get("HTTP_HOST")
    if loopback:
        _check_host(host, environ.get("SERVER_PROTOCOL", ""))
    if environ["REQUEST_METHOD"] == "POST":
        _check_origin(environ.get("HTTP_ORIGIN"), host)


def _check_host(host: str | None, protocol: str) -> None:
    """The port is not compared: rebinding needs a name, and a forwarded port (``ssh -L``) differs.

    HTTP/1.0 asks for no Host header; browsers, which this is about, always send one.
    """
    if host is None and protocol == "HTTP/1.0":
        return
    if host is None:
        raise ApiError(400, "The request has no Host header.")
    if not is_loopback(host_name(host)):
        raise ApiError(
            403,
            f"This server answers as 127.0.0.1 and localhost only, not as {host!r}; "
            "to serve other names, start it with --host.",
            kind="permission_error",
            code="host_not_allowed",
        )


def _check_origin(origin: str | None, host: str | None) -> None:
    """Programs send no Origin; our own page sends the address that it was loaded from."""
    if origin is None:
        return
    own = {f"http://{host}".lower(), f"https://{host}".lower()}
    if host is None or origin.lower() not in own:
        raise ApiError(
            403,
            f"A web page of {origin!r} may not use this server.",
            kind="permission_error",
            code="origin_not_allowed",
        )
