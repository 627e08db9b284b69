"""A process that serves a scripted engine: ``python scripted_server.py OPTIONS-AS-JSON``.

Options: what ServeOptions takes, and ``fault``, with which loading ends.
"""

import json
import sys
from pathlib import Path

from scripted_engine import Scripted

from llamafile_runtime.errors import ServeError
from llamafile_runtime.web.serve import ServedFile, ServeOptions, serve


def make_engine() -> Scripted:
    engine = Scripted(["x"] * 1000, stepped=True)
    if FAULT:
        engine.now, engine.fault = "failed", FAULT
    return engine


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    FAULT = options.pop("fault", None)
    if "state_file" in options:
        options["state_file"] = Path(options["state_file"])
    try:
        sys.exit(serve(make_engine, ServedFile("Test", "1"), ServeOptions(**options), say))
    except ServeError as error:
        sys.exit(f"Error: {error}")
