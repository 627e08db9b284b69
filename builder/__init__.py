"""llamafile-build: make one file that holds a model and runs on every OS."""

__version__ = "0.1.0"
