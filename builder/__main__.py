"""``python -m llamafile_build`` is the ``llamafile-build`` command."""

from .cli import main

main()
