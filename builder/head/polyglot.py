"""Makes the bytes that are a shell script and a Windows program at once.

    0           MZllamafile='           DOS magic, to a shell the begin of an assignment
    0x3c        e_lfanew                all of this is inside the shell's quotes, so it must
    ...         PE headers              not hold a quote (0x27)
    headers     '<newline>              end of the assignment, right after the section table
    ...         the script              ends in exec or exit, so no shell reads further
    tail        sections                PointerToRawData shifted to here

The trick is Cosmopolitan's APE. Its own name, MZqFpD=, is not used: where APE is registered with
binfmt_misc (as llamafile advises), that prefix hands the file to the ape loader, which looks for
an ELF program that is not here, and fails.
"""

from __future__ import annotations

from llamafile_build.errors import BuilderError
from llamafile_build.head import pe

MAGIC_LINE = "MZllamafile='"
_QUOTE = 0x27


class HeadError(BuilderError):
    """The head cannot be made."""


def _quoted_headers(stub: bytes, shift: int) -> bytes:
    """The PE headers of `stub`, its sections moved, wrapped as a shell assignment."""
    image = pe.parse(stub)
    headers = pe.moved(stub, shift)
    magic = f"{MAGIC_LINE}\n".encode("ascii")
    # Of the DOS header Windows reads the magic and e_lfanew; what libmagic and others look at
    # (e_lfarlc, 0x18) stays too. The DOS program after it goes.
    headers[: len(magic)] = magic
    headers[pe.DOS_HEADER_SIZE : image.pe_offset] = bytes(image.pe_offset - pe.DOS_HEADER_SIZE)
    quoted = bytes(headers[len(magic) : image.headers_end])
    if _QUOTE in quoted:
        raise HeadError("the Windows launcher's headers hold a quote, which ends the shell's")
    return bytes(headers[: image.headers_end]) + b"'\n"


def polyglot(stub: bytes, script: bytes, size: int) -> bytes:
    """`size` bytes that run `script` in a shell and `stub` on Windows.

    `stub` is a PE32+ program, `script` shell text that never falls through its end. Raises
    HeadError when both do not fit or cannot be combined.
    """
    image = pe.parse(stub)
    sections = stub[image.raw_start : image.raw_end]
    start = (size - len(sections)) // image.file_alignment * image.file_alignment
    front = _quoted_headers(stub, start - image.raw_start) + script
    # The script may begin inside SizeOfHeaders (Windows maps it with the headers, unused).
    if len(front) > start or start < image.size_of_headers:
        raise HeadError(
            f"the launcher is too large: {len(front)} bytes of headers and script and "
            f"{len(sections)} bytes of program do not fit in {size}"
        )
    head = front.ljust(start, b"\n") + sections
    return head.ljust(size, b"\0")
