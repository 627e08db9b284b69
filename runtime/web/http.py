"""Answers as values: a WSGI application's status, headers and body, and the errors among them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from ..errors import RuntimeFailure

Headers = tuple[tuple[str, str], ...]

JSON_TYPE = ("Content-Type", "application/json; charset=utf-8")
NO_STORE = ("Cache-Control", "no-store")


@dataclass(frozen=True)
class Response:
    """``body`` is bytes, or an iterable of bytes that is sent piece by piece as it comes.

    An iterable with a ``close`` method gets it called, whether it was read to its end or not.
    """

    status: int
    headers: Headers
    body: bytes | Iterable[bytes]

    @property
    def status_line(self) -> str:
        return f"{self.status} {HTTPStatus(self.status).phrase}"


class ApiError(RuntimeFailure):
    """A request that is refused: ``str(error)`` is the sentence that the client gets.

    ``kind``, ``param`` and ``code`` are the fields ``type``, ``param`` and ``code`` of OpenAI's
    error object; ``headers`` are sent with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = headers

    def document(self) -> dict[str, object]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": str(self),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> Response:
        return json_response(self.document(), self.status, self.headers)


def json_bytes(document: object) -> bytes:
    """Compact UTF-8 JSON. Text that UTF-8 cannot hold (lone surrogates) is replaced."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def json_response(document: object, status: int = 200, headers: Headers = ()) -> Response:
    """An answer that no cache may keep."""
    return Response(status, (JSON_TYPE, NO_STORE, *headers), json_bytes(document))
