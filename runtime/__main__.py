"""``python -m llamafile_runtime --archive FILE …``: a built file run by this Python."""

import sys

from .start import main

sys.exit(main())
