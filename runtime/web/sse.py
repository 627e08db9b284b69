"""Server-sent events (WHATWG HTML, section 9.2), as far as OpenAI's streams use them."""

from __future__ import annotations

from .http import Headers, json_bytes

SSE_HEADERS: Headers = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-store"),
    # nginx would collect the answer before it passes it on.
    ("X-Accel-Buffering", "no"),
)

DONE = b"data: [DONE]\n\n"


def event(document: object) -> bytes:
    """One event. JSON escapes line breaks, so a document is always a single data line."""
    return b"data: " + json_bytes(document) + b"\n\n"
