"""Paths, methods, states and errors, over real sockets."""

import json
from typing import Any

import pytest

from llamafile_runtime.errors import BadRequest, ContextExceeded, NativeError, NotReady
from llamafile_runtime.web.guard import BODY_LIMIT, SECURITY_HEADERS
from llamafile_runtime.web.pages import FILES

CHAT = "/v1/chat/completions"


def test_health(server: Any) -> None:
    answer = server.get("/health")
    assert answer.status == 200
    assert answer.json == {"status": "ok", "instance": "0123456789abcdef"}
    assert answer.headers["cache-control"] == "no-store"


def test_health_while_loading_and_after_a_failure(server: Any) -> None:
    server.engine.now, server.engine.share = "loading", 0.4216
    loading = server.get("/health")
    assert loading.status == 503
    assert loading.headers["retry-after"] == "1"
    assert loading.json["status"] == "loading model"
    assert loading.json["progress"] == 0.422
    server.engine.now, server.engine.fault = "failed", "the model is cut off; build it again"
    failed = server.get("/health")
    assert failed.status == 500
    assert failed.json["error"] == "the model is cut off; build it again"


def test_models(server: Any) -> None:
    document = server.get("/v1/models").json
    assert document["object"] == "list"
    assert [model["id"] for model in document["data"]] == ["Test model"]
    assert document["data"][0]["meta"]["context"] == 100
    assert server.get("/v1/models/Test%20model").json == document["data"][0]
    missing = server.get("/v1/models/other")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")
    server.engine.now = "loading"
    assert "meta" not in server.get("/v1/models").json["data"][0]


def test_a_model_name_with_slashes_and_umlauts(serve: Any, scripted: Any) -> None:
    server = serve(scripted(), name="org/Modell für alle")
    answer = server.get("/v1/models/org/Modell%20f%C3%BCr%20alle")
    assert answer.json["id"] == "org/Modell für alle"


def test_app_json_is_never_an_error_status(server: Any) -> None:
    server.engine.now, server.engine.fault = "failed", "why"
    answer = server.get("/app.json")
    assert answer.status == 200
    assert answer.json["name"] == "Test model"
    assert answer.json["version"] == "1.2.3"
    assert (answer.json["status"], answer.json["error"]) == ("error", "why")


@pytest.mark.parametrize("path", FILES)
def test_the_pages_files(server: Any, path: str) -> None:
    answer = server.get(path)
    assert answer.status == 200
    assert answer.body
    assert answer.headers["content-type"].partition(";")[0] == {
        "": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml",
    }[path.rpartition(".")[2].strip("/")]  # fmt: skip
    etag = answer.headers["etag"]
    assert server.get(path, If_None_Match=f'"other", W/{etag}').status == 304
    assert server.get(path, If_None_Match='"other"').body == answer.body


def test_only_known_files_are_served(server: Any) -> None:
    for path in ("/static/app.js", "/../app.py", "/..%2fapp.py", "/__init__.py", "//etc/passwd"):
        answer = server.get(path)
        assert (answer.status, answer.error["code"]) == (404, "not_found")


def test_every_answer_has_the_security_headers(server: Any) -> None:
    answers = [
        server.get("/"), server.get("/health"), server.get("/nothing"), server.chat(),
        server.chat(stream=True), server.get("/", Host="evil.example"),
        server.request("OPTIONS", CHAT), server.send(b"nonsense\r\n\r\n"),
    ]  # fmt: skip
    for answer in answers:
        for name, value in SECURITY_HEADERS:
            assert answer.headers[name.lower()] == value
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("DELETE", "/health", "GET, HEAD, OPTIONS"),
        ("GET", CHAT, "POST, OPTIONS"),
        ("PUT", CHAT, "POST, OPTIONS"),
        ("POST", "/v1/models/x", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    server: Any, method: str, path: str, allowed: str
) -> None:
    answer = server.request(method, path, b"{}" if method in ("POST", "PUT") else None)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.error["code"] == "method_not_allowed"


def test_head_and_options(server: Any) -> None:
    whole, head = server.get("/app.js"), server.request("HEAD", "/app.js")
    assert head.status == 200
    assert head.headers["content-length"] == str(len(whole.body))
    options = server.request("OPTIONS", CHAT, Origin="https://evil.example")
    assert (options.status, options.headers["allow"]) == (204, "POST, OPTIONS")


def test_host_and_origin_over_the_wire(server: Any) -> None:
    assert server.get("/", Host="evil.example").error["code"] == "host_not_allowed"
    assert server.get("/", Host=None).status == 400
    body = b'{"messages": [{"role": "user", "content": "Hi"}]}'
    refused = server.request("POST", CHAT, body, Origin="https://evil.example")
    assert (refused.status, refused.error["code"]) == (403, "origin_not_allowed")
    assert server.engine.asked == []
    assert server.request("POST", CHAT, body, Origin=server.url).status == 200


def test_a_server_for_others_answers_to_their_names(serve: Any, scripted: Any) -> None:
    assert serve(scripted(), loopback=False).get("/health", Host="box.lan").status == 200


def test_an_answer(server: Any) -> None:
    document = server.chat(temperature=0, seed=3).json
    assert document["object"] == "chat.completion"
    assert document["model"] == "Test model"
    assert document["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert document["usage"] == {
        "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 3},
    }  # fmt: skip
    assert document["timings"]["prompt_n"] == 4
    assert document["timings"]["predicted_per_second"] == 1.0
    [(messages, params)] = server.engine.asked
    assert messages == [{"role": "user", "content": "Hi"}]
    assert (params.temperature, params.seed) == (0.0, 3)


def test_the_path_without_v1(server: Any) -> None:
    body = b'{"messages": [{"role": "user", "content": "Hi"}]}'
    answer = server.request("POST", "/chat/completions", body)
    assert answer.json["choices"][0]["message"]["content"] == "Hello"


def test_a_bad_request_reaches_no_engine(server: Any) -> None:
    answer = server.chat(n=2)
    assert (answer.status, answer.error["param"]) == (400, "n")
    assert server.engine.asked == []


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_only_json_is_taken(server: Any, media_type: str | None) -> None:
    assert server.request("POST", CHAT, b"{}", Content_Type=media_type).status == 415


def test_json_with_a_charset_is_taken_and_compressed_json_is_not(server: Any) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "ä"}]}).encode()
    media_type = "application/json; charset=utf-8"
    assert server.request("POST", CHAT, body, Content_Type=media_type).status == 200
    assert server.request("POST", CHAT, body, Content_Encoding="gzip").status == 415


def test_a_body_over_the_limit(server: Any) -> None:
    empty = b'{"messages": [{"role": "user", "content": "' + b'"}]}'
    largest = empty.replace(b'""', b'"' + b"x" * (BODY_LIMIT - len(empty)) + b'"')
    assert len(largest) == BODY_LIMIT
    assert server.request("POST", CHAT, largest).status == 200
    refused = server.request("POST", CHAT, largest + b" ")
    assert (refused.status, refused.error["code"]) == (413, "too_large")


def test_a_body_far_over_the_limit_is_not_even_read(server: Any) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**12}\r\n\r\n"
    answer = server.send(head.encode())
    assert answer.status == 413
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("raw", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nBad Header\r\n\r\n"])
def test_what_is_no_http_gets_an_error_all_the_same(server: Any, raw: bytes) -> None:
    assert server.send(raw).status == 400


def test_a_connection_serves_several_requests(server: Any) -> None:
    body = b'{"messages": [{"role": "user", "content": "Hi"}]}'
    post = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with server.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(3):
            connection.sendall(post)
            stream.readline()
            length = 0
            while (line := stream.readline().strip()) != b"":
                name, _, value = line.lower().partition(b":")
                assert (name, value.strip()) != (b"connection", b"close")
                length = int(value) if name == b"content-length" else length
            assert json.loads(stream.read(length))["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (ContextExceeded(300, 100), 400, "context_length_exceeded"),
        (BadRequest("the template refuses it"), 400, None),
        (NotReady("still loading"), 503, "model_loading"),
        (NativeError("llama.cpp failed"), 500, None),
        (ZeroDivisionError("a bug"), 500, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_refuses(
    server: Any, raised: Exception, status: int, code: str | None, stream: bool
) -> None:
    server.engine.refuse = raised
    answer = server.chat(stream=stream)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert "a bug" not in answer.error["message"]  # but in the log
    server.engine.refuse = None
    assert server.chat().status == 200  # its place was given back


def test_while_loading_and_after_a_failure(server: Any) -> None:
    server.engine.now, server.engine.share = "loading", 0.5
    loading = server.chat()
    assert (loading.status, loading.headers["retry-after"]) == (503, "1")
    assert loading.error["message"] == "The model is still loading (50%)."
    server.engine.now, server.engine.fault = "failed", "It is cut off."
    failed = server.chat()
    assert (failed.status, failed.error["code"]) == (500, "model_failed")
    assert failed.error["message"] == "It is cut off."
