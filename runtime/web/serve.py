"""Serving a file: bind, announce, open the page, load the model, wait for the end."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from ..engine.engine import Engine
from ..errors import RuntimeFailure
from .app import AppInfo, create_app
from .browser import open_browser
from .guard import is_loopback
from .httpd import FIRST_PORT, listen, make_server, run_server
from .instance import (
    Instance,
    find_running,
    new_token,
    remove_state,
    starting,
    write_state,
)
from .stop import Stop

_BROWSER_SECONDS = 10.0
"""How long a second start waits for the browser's program: it would not outlive this one."""


@dataclass(frozen=True)
class ServeOptions:
    """Where and how to serve.

    ``port`` None takes the first free port from ``first_port``; 0 takes any. ``state_file``
    (``<cache root>/run/<instance_key>.json``) is where the running server is announced; None
    announces nothing. ``reuse``: a server found there is used instead of starting another;
    leave it off when options were given that it would ignore (--host, --port).
    """

    host: str = "127.0.0.1"
    port: int | None = None
    first_port: int = FIRST_PORT
    browser: bool = True
    state_file: Path | None = None
    reuse: bool = True


@dataclass(frozen=True)
class ServedFile:
    """What the page and the API tell of the file; see AppInfo."""

    name: str
    version: str
    description: str | None = None


def serve(
    make_engine: Callable[[], Engine],
    file: ServedFile,
    options: ServeOptions,
    say: Callable[[str], None],
) -> int:
    """Serve until Ctrl-C or SIGTERM; gives the process's exit code.

    ``make_engine`` gives an engine that has not begun to load: it loads in the background, with
    the pages there already. ``say`` gets each line for the terminal. Must run in the main thread
    (signals).
    Raises ServeError when the host or port cannot be had, and what ``make_engine`` raises.
    """
    stop = Stop()
    with stop.on_signals():
        found = _find_or_announce(options)
        if found.listener is None:
            say(f"{file.name} is already running at {found.instance.url}")
            if options.browser:
                open_browser(found.instance.url).join(_BROWSER_SECONDS)
            return 0
        try:
            return _serve(make_engine(), file, options, say, found.listener, found.instance, stop)
        finally:
            found.listener.close()
            if options.state_file:
                remove_state(options.state_file, found.instance.token)


@dataclass(frozen=True)
class _Found:
    """The server to use: another one's, or ours, which then has a socket that listens."""

    instance: Instance
    listener: socket.socket | None


def _find_or_announce(options: ServeOptions) -> _Found:
    with starting(options.state_file.parent) if options.state_file else nullcontext():
        running = _running(options)
        if running is not None:
            return _Found(running, None)
        listener = listen(options.host, options.port, options.first_port)
        address, port = listener.getsockname()[:2]
        instance = Instance(os.getpid(), _local(address), port, new_token())
        _announce(options.state_file, instance)
        return _Found(instance, listener)


def _running(options: ServeOptions) -> Instance | None:
    if options.state_file is None or not options.reuse:
        return None
    return find_running(options.state_file)


def _announce(state_file: Path | None, instance: Instance) -> None:
    """A cache that cannot be written costs the second start's convenience, nothing else."""
    if state_file is not None:
        with suppress(OSError):
            write_state(state_file, instance)


def _local(address: str) -> str:
    """Where this computer reaches a server that listens on ``address``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104


def _serve(
    engine: Engine,
    file: ServedFile,
    options: ServeOptions,
    say: Callable[[str], None],
    listener: socket.socket,
    instance: Instance,
    stop: Stop,
) -> int:
    address = listener.getsockname()[0]
    info = AppInfo(
        name=file.name,
        version=file.version,
        instance=instance.token,
        description=file.description,
        loopback=is_loopback(address),
    )
    server = make_server(create_app(engine, info, stop.requested), listener)
    stop.wake = server.pull_trigger
    say(f"{file.name}: {instance.url} (Ctrl-C ends it)")
    if not info.loopback:
        say(
            f"Warning: listening on {address}: every computer that reaches this one "
            "can use the model, without a password"
        )
    engine.start_loading()
    threading.Thread(target=_report, args=(engine, say), name="report", daemon=True).start()
    if options.browser:
        open_browser(instance.url)
    run_server(server, stop.requested)
    failed = engine.state == "failed"
    engine.close()
    return 1 if failed else stop.exit_code


def _report(engine: Engine, say: Callable[[str], None]) -> None:
    """Say in the terminal how loading ended. A failed server stays: its page tells the reason
    to those who started the file by a double click, without a terminal that lasts."""
    try:
        engine.wait_ready()
    except RuntimeFailure as error:
        if engine.state == "failed":
            say(f"Error: {error}")
