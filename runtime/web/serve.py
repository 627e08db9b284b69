"""Serving a file: bind, announce, open the page, load the model, wait for the end."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ..engine.engine import Engine
from ..errors import RuntimeFailure
from .app import AppInfo, create_app
from .browser import open_browser
from .guard import is_loopback
from .httpd import FIRST_PORT, listen, make_server
from .instance import (
    Instance,
    find_running,
    new_token,
    remove_state,
    starting,
    write_state,
)

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count."""

_ECHO_SECONDS = 1.0


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
    the pages there already. ``say`` gets each line for the terminal. Must run in the main thread (signals).
    Raises ServeError when the host or port cannot be had, and what ``make_engine`` raises.
    """
    token = new_token()
    with starting(options.state_file.parent) if options.state_file else nullcontext():
        running = _running(options)
        if running is not None:
            say(f"{file.name} is already running at {running.url}")
            if options.browser:
                open_browser(running.url)
            return 0
        listener = listen(options.host, options.port, options.first_port)
        address, port = listener.getsockname()[:2]
        instance = Instance(os.getpid(), _local(address), port, token)
        _announce(options.state_file, instance)
    try:
        engine = make_engine()
        loopback = is_loopback(address)
        say(f"{file.name}: {instance.url} (Ctrl-C ends it)")
        if not loopback:
            say(
                f"Warning: listening on {address}: every computer that reaches this one "
                "can use the model, without a password"
            )
        info = AppInfo(
            name=file.name,
            version=file.version,
            instance=token,
            description=file.description,
            loopback=loopback,
        )
        if options.browser:
            open_browser(instance.url)
        return _run(engine, info, listener, say)
    finally:
        listener.close()
        if options.state_file:
            remove_state(options.state_file, token)


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


def _run(engine: Engine, info: AppInfo, listener: socket.socket, say: Callable[[str], None]) -> int:
    stop = _Stop()
    server = make_server(create_app(engine, info, stop.requested), listener)
    with stop.on_signals(server.pull_trigger):
        engine.start_loading()
        threading.Thread(target=_report, args=(engine, say), name="report", daemon=True).start()
        while not stop.requested():
            # Returns after each step, or when the trigger is pulled.
            server.asyncore.loop(
                timeout=1, use_poll=server.adj.asyncore_use_poll, map=server._map, count=1
            )
        # Answers that still run see stop.requested() at their next token and end.
        server.task_dispatcher.shutdown()
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


class _Stop:
    """The wish to end, from a signal. A second one ends the process at once.

    Wrappers such as ``timeout`` send each signal twice, so one that follows within
    ``_ECHO_SECONDS`` is the same wish.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._since = 0.0

    def requested(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self._signal == signal.SIGINT else 0

    @contextmanager
    def on_signals(self, wake: Callable[[], None]) -> Iterator[None]:
        """Handle the signals that ask a program to end; ``wake`` interrupts the server's wait."""

        def handle(number: int, frame: FrameType | None) -> None:
            if not self.requested():
                self._signal, self._since = number, time.monotonic()
                wake()
            elif time.monotonic() - self._since > _ECHO_SECONDS:
                os._exit(128 + number)

        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        # One that is ignored stays so: nohup, or a shell's background job.
        wanted = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, handle) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
