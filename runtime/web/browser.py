"""Opening the user's browser, without waiting for it and without a word where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from shutil import which


def can_open(platform: str, environment: Mapping[str, str]) -> bool:
    """Whether a browser with a window may be expected. ``platform`` is ``sys.platform``.

    Without a display Python's webbrowser would start a text browser inside the terminal.
    """
    if platform in ("win32", "darwin"):
        return True
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def open_browser(url: str) -> threading.Thread:
    """Open ``url`` if there is a browser, in a thread: some return only when they are closed.

    Never raises.
    """
    thread = threading.Thread(target=_open, args=(url,), name="browser", daemon=True)
    thread.start()
    return thread


def _open(url: str) -> None:
    if not can_open(sys.platform, os.environ):
        return
    import webbrowser  # after the server is up: it takes its time

    try:
        opener = which("xdg-open")
        if sys.platform == "win32":
            os.startfile(url)  # noqa: S606
        elif sys.platform != "darwin" and opener and not os.environ.get("BROWSER"):
            # webbrowser would let the browser's chatter into our terminal.
            quiet = subprocess.DEVNULL
            subprocess.Popen(
                [opener, url], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
            )
        else:
            webbrowser.open(url)
    except (OSError, webbrowser.Error):
        return  # the URL stands in the terminal
