"""The WSGI application: paths, methods and headers. What is answered is made elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine.engine import Engine
from ..errors import BadRequest, ContextExceeded, NotReady, RuntimeFailure
from . import completion, guard, openai
from .chatrequest import parse_chat_request
from .http import ApiError, Headers, Response, json_response
from .pages import FILES, page

MAX_COMPLETIONS = 32
"""Requests for an answer at a time, the waiting ones included: each holds a thread."""

LOADING_FAILED = "The model could not be loaded."
RETRY: Headers = (("Retry-After", "1"),)

Environ = Mapping[str, Any]
WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Handler = Callable[[Environ], Response]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AppInfo:
    """What the pages and the API tell of this file.

    ``name`` is the model's id in the API. ``instance`` tells one start of a server from every
    other. ``loopback``: only this computer reaches the server, so other Host names are refused.
    """

    name: str
    version: str
    instance: str
    description: str | None = None
    loopback: bool = True
    started: int = field(default_factory=lambda: int(time.time()))


def create_app(
    engine: Engine, info: AppInfo, stopping: Callable[[], bool] = lambda: False
) -> WSGIApp:
    """The application. ``engine`` may still be loading; ``stopping()`` ends running answers."""
    app = _App(engine, info, stopping)

    def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        response = app.respond(environ)
        headers = [*response.headers, *guard.SECURITY_HEADERS]
        body = response.body
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
            body = [body] if body and environ["REQUEST_METHOD"] != "HEAD" else []
        start_response(response.status_line, headers)
        return body

    return wsgi


class _App:
    def __init__(self, engine: Engine, info: AppInfo, stopping: Callable[[], bool]) -> None:
        self._engine = engine
        self._info = info
        self._stopping = stopping
        self._places = threading.BoundedSemaphore(MAX_COMPLETIONS)
        self._routes: dict[str, dict[str, Handler]] = {
            "/health": {"GET": self._health},
            "/v1/health": {"GET": self._health},
            "/app.json": {"GET": self._app_json},
            "/v1/models": {"GET": self._models},
            "/models": {"GET": self._models},
            "/v1/chat/completions": {"POST": self._chat},
            "/chat/completions": {"POST": self._chat},
            **{path: {"GET": self._page} for path in FILES},
        }

    def respond(self, environ: Environ) -> Response:
        """The answer to any request: what goes wrong becomes an error document."""
        try:
            guard.check(environ, loopback=self._info.loopback)
            return self._dispatch(environ)
        except RuntimeFailure as error:
            return _refusal(error).response()
        except Exception:
            _log.exception("a request failed")
            return completion.internal_error().response()

    def _dispatch(self, environ: Environ) -> Response:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        methods = self._routes.get(path)
        if methods is None and path.startswith("/v1/models/"):
            methods = {"GET": self._model}
        if methods is None:
            raise ApiError(404, f"There is nothing at {path!r}.", code="not_found")
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
        if method == "OPTIONS":
            return Response(204, (("Allow", allowed),), b"")
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            message = f"{path!r} takes {allowed}, not {method}."
            raise ApiError(405, message, code="method_not_allowed", headers=(("Allow", allowed),))
        return handler(environ)

    def _page(self, environ: Environ) -> Response:
        return page(environ["PATH_INFO"], environ.get("HTTP_IF_NONE_MATCH", ""))

    def _health(self, environ: Environ) -> Response:
        """llama.cpp's way of saying whether requests can be served."""
        status, document = self._state()
        return json_response(document, status, RETRY if status == 503 else ())

    def _state(self) -> tuple[int, openai.Document]:
        instance = self._info.instance
        state = self._engine.state
        if state == "ready":
            return 200, {"status": "ok", "instance": instance}
        if state == "failed":
            message = self._engine.error or LOADING_FAILED
            return 500, {"status": "error", "error": message, "instance": instance}
        progress = round(self._engine.progress, 3)
        return 503, {"status": "loading model", "progress": progress, "instance": instance}

    def _app_json(self, environ: Environ) -> Response:
        """The state for the page, which wants no error status while the model loads."""
        _, document = self._state()
        info = self._info
        about = {"name": info.name, "version": info.version, "description": info.description}
        return json_response({**document, **about})

    def _describe(self) -> openai.Document:
        ready = self._engine.state == "ready"
        model = self._engine.model_info if ready else None
        return openai.model(self._info.name, self._info.started, model)

    def _models(self, environ: Environ) -> Response:
        return json_response(openai.model_list([self._describe()]))

    def _model(self, environ: Environ) -> Response:
        # PEP 3333: PATH_INFO is percent-decoded, and holds bytes as Latin-1.
        raw = environ["PATH_INFO"].removeprefix("/v1/models/").encode("latin-1")
        name = raw.decode("utf-8", "replace")
        if name != self._info.name:
            raise ApiError(404, f"The model {name!r} is not here.", code="model_not_found")
        return json_response(self._describe())

    def _chat(self, environ: Environ) -> Response:
        body = _json_body(environ)
        self._check_ready()
        request = parse_chat_request(body, self._engine.defaults)
        if not self._places.acquire(blocking=False):
            message = f"{MAX_COMPLETIONS} requests are waiting already; try again in a moment."
            raise _unavailable(message, "overloaded")
        client_gone = environ.get("waitress.client_disconnected", lambda: False)
        return completion.answer(
            self._engine,
            request,
            self._info.name,
            gone=lambda: client_gone() or self._stopping(),
            done=self._places.release,
        )

    def _check_ready(self) -> None:
        state = self._engine.state
        if state == "loading":
            progress = f"{self._engine.progress:.0%}"
            raise _unavailable(f"The model is still loading ({progress}).", "model_loading")
        if state == "failed":
            message = self._engine.error or LOADING_FAILED
            raise ApiError(500, message, kind="server_error", code="model_failed")


def _unavailable(message: str, code: str) -> ApiError:
    return ApiError(503, message, kind="server_error", code=code, headers=RETRY)


def _json_body(environ: Environ) -> bytes:
    """The body of a POST. Asking for JSON's own type also keeps other sites' HTML forms out."""
    media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if media_type != "application/json" or environ.get("HTTP_CONTENT_ENCODING"):
        raise ApiError(415, "Send the body as it is, with 'Content-Type: application/json'.")
    body: bytes = environ["wsgi.input"].read(guard.BODY_LIMIT + 1)
    if len(body) > guard.BODY_LIMIT:
        limit = guard.BODY_LIMIT >> 20
        raise ApiError(413, f"The request body is larger than {limit} MiB.", code="too_large")
    return body


def _refusal(error: RuntimeFailure) -> ApiError:
    """What the engine refused, as OpenAI's API says it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ContextExceeded):
        code = "context_length_exceeded"
        return ApiError(400, _sentence(error), param="messages", code=code)
    if isinstance(error, BadRequest):
        return ApiError(400, _sentence(error))
    if isinstance(error, NotReady):
        return _unavailable(_sentence(error), "model_loading")
    return ApiError(500, _sentence(error), kind="server_error")


def _sentence(error: RuntimeFailure) -> str:
    """An engine's message, which stands after a colon in a terminal, as text of its own."""
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
