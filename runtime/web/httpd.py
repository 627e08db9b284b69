"""Waitress, set up for this server: listening sockets, limits, and errors in OpenAI's shape."""

from __future__ import annotations

import errno
import logging
import select
import socket
import sys
from collections.abc import Callable
from typing import Any

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]

from ..errors import ServeError
from .app import MAX_COMPLETIONS, WSGIApp
from .guard import BODY_LIMIT, SECURITY_HEADERS
from .http import ApiError, json_bytes

FIRST_PORT = 8080
_LAST_PORT = 8179
_SPARE_THREADS = 8  # for the page and /health while every place for an answer is taken


class _JSONErrorTask(ErrorTask):  # type: ignore[misc]
    """What Waitress refuses before the application sees it: broken or endless requests."""

    def execute(self) -> None:
        fault = self.request.error
        error = ApiError(fault.code, f"{fault.reason}: {fault.body}.")
        body = json_bytes(error.document())
        response = error.response()
        self.status = response.status_line
        self.response_headers.extend([*response.headers, *SECURITY_HEADERS])
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _JSONErrorTask


def make_server(app: WSGIApp, listener: socket.socket) -> Any:
    """A Waitress server for ``app`` on a listening socket."""
    server = create_server(
        app,
        sockets=[listener],
        threads=MAX_COMPLETIONS + _SPARE_THREADS,
        ident="",
        # Above this Waitress stops reading; the application refuses what is over BODY_LIMIT.
        max_request_body_size=2 * BODY_LIMIT,
        max_request_header_size=64 << 10,
        # Conversations stay in memory: no temporary files with what people wrote.
        inbuf_overflow=4 * BODY_LIMIT,
        outbuf_overflow=4 * BODY_LIMIT,
        connection_limit=200,
        # Keeps reading while requests wait, so that a client that leaves is noticed; one that has
        # sent more than this ahead is not.
        channel_request_lookahead=4,
        asyncore_use_poll=hasattr(select, "poll"),
        log_socket_errors=False,
    )
    server.channel_class = _Channel
    # It would warn in the terminal whenever more requests than threads wait.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    return server


def run_server(server: Any, stopped: Callable[[], bool]) -> None:
    """Serve until ``stopped()``, which is asked after each step, at least once a second.

    ``server.pull_trigger()`` ends a step from any thread or signal handler. Waitress's own
    ``run`` would have to be left by an exception, which a signal raises at any place in it.
    """
    while not stopped():
        server.asyncore.loop(
            timeout=1, use_poll=server.adj.asyncore_use_poll, map=server._map, count=1
        )
    server.task_dispatcher.shutdown()  # running answers see that they are not wanted, and end


def listen(host: str, port: int | None, first_port: int = FIRST_PORT) -> socket.socket:
    """A socket that listens on ``host``: at ``port``, or at the first free one from ``first_port``.

    Port 0 takes any free one. Raises ServeError when the host or the port cannot be had.
    """
    family, address = _resolve(host)
    if port is not None:
        return _bind(family, address, port, host)
    for candidate in range(first_port, max(first_port, _LAST_PORT) + 1):
        try:
            return _bind(family, address, candidate, host)
        except _Taken:
            continue
    return _bind(family, address, 0, host)


class _Taken(ServeError):
    """The port is in use."""


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(
            host.removeprefix("[").removesuffix("]"), None, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        raise ServeError(f"--host {host}: this is no address of this computer ({error})") from error
    # A name such as localhost may have both; more programs know the older one.
    family, *_, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, str(address[0])


def _bind(family: socket.AddressFamily, address: str, port: int, host: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # On Windows SO_REUSEADDR would take over a port that somebody listens on.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        # Here rather than in Waitress: with SO_REUSEADDR two may bind, but only one may listen.
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise _refused(error, host, port) from error
    return listener


def _refused(error: OSError, host: str, port: int) -> ServeError:
    if error.errno == errno.EADDRINUSE:
        return _Taken(
            f"port {port} is in use by another program; choose another one with --port, "
            "or leave --port out to take the first free one"
        )
    if error.errno == errno.EACCES:  # below 1024 on Unix; ranges that Windows keeps for itself
        return _Taken(f"port {port} may not be used here; choose another one with --port")
    return ServeError(f"cannot listen on {host}, port {port}: {error.strerror or error}")
