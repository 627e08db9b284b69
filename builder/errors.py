"""The builder's error tree.

BuilderError          the build cannot go on; its message is the sentence that the user reads
├── UsageError        the command line or the config asks for something that makes no sense
└── InputError        a file that the user named is missing, damaged or of the wrong kind

Library code raises; only ``cli`` prints and exits (2 for UsageError, 1 for the rest).
"""


class BuilderError(Exception):
    """The build failed. ``str(error)`` is one line: what is wrong and what to do next."""


class UsageError(BuilderError):
    """The request itself is at fault: exit code 2, as click's own usage errors."""


class InputError(BuilderError):
    """A file that the user named cannot be used."""
