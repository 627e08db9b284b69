"""The runtime's error tree.

RuntimeFailure            something the user must read; ``str(error)`` is that sentence
├── ArchiveError          the file itself is damaged or not one of ours
├── NativeError           llama.cpp's library cannot be loaded or failed
├── ModelError            the model cannot be loaded
├── BadRequest            a prompt, message list or parameter that cannot be served
│   └── ContextExceeded   the prompt has more tokens than the context holds
├── ServeError            the server cannot be started (no free port, …)
└── NotReady              the model is still loading

Only ``cli`` prints these and exits; ``web`` turns them into HTTP answers.
"""


class RuntimeFailure(Exception):
    """The run failed. ``str(error)`` is one line: what is wrong and what to do next."""


class ArchiveError(RuntimeFailure):
    """The archive is truncated, damaged, or not a file that llamafile-build wrote."""


class NativeError(RuntimeFailure):
    """llama.cpp's library could not be loaded, or a call into it failed."""


class ModelError(RuntimeFailure):
    """The model could not be loaded."""


class BadRequest(RuntimeFailure):
    """The request cannot be served as it stands."""


class ContextExceeded(BadRequest):
    """The prompt does not fit into the context window."""

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens, but the context holds {context_tokens}; "
            "shorten it or start with a larger context (-c)"
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class ServeError(RuntimeFailure):
    """The server could not be started."""


class NotReady(RuntimeFailure):
    """The model is still loading; try again in a moment."""
