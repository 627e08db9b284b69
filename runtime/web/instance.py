"""Finding the server that already runs for a file: ``<cache root>/run/<key>.json``.

The state file alone proves nothing: a process may have been killed and its port taken by
another. So whoever reads it asks that port for /health and compares the instance token.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_ANSWER_SECONDS = 3.0  # a busy machine's answer takes milliseconds; a hung process none
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Instance:
    """A running server: ``host`` and ``port`` are where a client on this computer finds it."""

    pid: int
    host: str
    port: int
    token: str

    @property
    def url(self) -> str:
        return http_url(self.host, self.port)


def http_url(host: str, port: int) -> str:
    """The address of a server for a browser."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def new_token() -> str:
    return secrets.token_hex(8)


def instance_key(archive: Path, *settings: object) -> str:
    """The name for state files of servers that give the same answers.

    The file's place, size and time tell a rebuilt file from the old one; ``settings`` are the
    options that change what is served.
    """
    place = archive.resolve()
    status = place.stat()
    facts = (str(place), status.st_size, status.st_mtime_ns, *settings)
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def find_running(state_file: Path) -> Instance | None:
    """The live server of a state file, or None. A failed one is as good as none."""
    instance = _read(state_file)
    if instance is None:
        return None
    health = _health(instance)
    if health.get("instance") != instance.token or health.get("status") == "error":
        return None
    return instance


def write_state(state_file: Path, instance: Instance) -> None:
    """Raises OSError. The file is replaced at once: nobody reads half of it."""
    state_file.parent.mkdir(parents=True, exist_ok=True)
    temporary = state_file.with_name(f".{state_file.name}.{instance.token}")
    try:
        temporary.write_text(json.dumps(asdict(instance)), encoding="utf-8")
        temporary.replace(state_file)
    finally:
        temporary.unlink(missing_ok=True)


def remove_state(state_file: Path, token: str) -> None:
    """Remove the file if it is still ours."""
    instance = _read(state_file)
    if instance is not None and instance.token == token:
        with suppress(OSError):
            state_file.unlink()


@contextmanager
def starting(folder: Path) -> Iterator[None]:
    """Held between looking for a running server and announcing a new one.

    Two clicks on a file in a row then give one server. Where there are no locks (some network
    file systems) or the holder hangs, the start goes on without: the worst is a second server.
    """
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        _wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)  # which gives the lock up


def _wait_for_lock(descriptor: int) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        try:
            _lock(descriptor)
            return
        except (BlockingIOError, PermissionError):
            time.sleep(0.02)
        except OSError:
            return


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read(state_file: Path) -> Instance | None:
    try:
        data: Any = json.loads(state_file.read_bytes())
        instance = Instance(**data)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    fits = [isinstance(value, kind) for value, kind in zip(
        (instance.pid, instance.host, instance.port, instance.token), (int, str, int, str),
        strict=True,
    )]  # fmt: skip
    return instance if all(fits) and 0 < instance.port < 65536 else None


def _health(instance: Instance) -> dict[str, Any]:
    import http.client  # needed by a second start only

    connection = http.client.HTTPConnection(instance.host, instance.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/health")
        document = json.loads(connection.getresponse().read(1 << 16))
    except (OSError, ValueError, http.client.HTTPException, RecursionError):
        return {}
    finally:
        connection.close()
    return document if isinstance(document, dict) else {}
