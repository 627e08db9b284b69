"""The part of llamafile-build that travels inside the built file and runs on the target."""

__version__ = "0.1.0"
