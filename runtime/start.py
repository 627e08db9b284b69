"""The entry point: which archive, which command, which exit code."""

from __future__ import annotations

import sys
from pathlib import Path

from . import __version__
from .errors import RuntimeFailure
from .locate import is_frozen, split_arguments

_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(arguments: list[str] | None = None) -> int:
    """Run the built file's command line. ``arguments`` are those after the program's name."""
    path, rest = split_arguments(sys.argv[1:] if arguments is None else arguments)
    name = path.name if path else "llamafile_runtime"
    from .console import forget_stdout, use_utf8

    use_utf8()
    try:
        code = _run(path, rest)
        sys.stdout.flush()
    except RuntimeFailure as error:
        return _fail(name, str(error))
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        forget_stdout()
        code = _BROKEN_PIPE
    except OSError as error:
        return _fail(name, str(error))
    return code


def _run(path: Path | None, arguments: list[str]) -> int:
    if path is None:
        return _without_archive(arguments)
    from .archive import open_archive
    from .cli import run

    return run(open_archive(path), arguments)


def _without_archive(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"llamafile_runtime {__version__}")
        return 0
    if is_frozen():
        raise RuntimeFailure("this program is a part of a built file: start that file instead")
    raise RuntimeFailure("no file to run: use python -m llamafile_runtime --archive FILE …")


def _fail(name: str, sentence: str) -> int:
    print(f"{name}: error: {' '.join(sentence.split())}", file=sys.stderr, flush=True)
    return 1
