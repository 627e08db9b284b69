"""Which requests are let in: pure decisions on headers."""

import pytest

from llamafile_runtime.web.guard import check, host_name, is_loopback
from llamafile_runtime.web.http import ApiError


def verdict(
    host: str | None = "127.0.0.1:8080", origin: str | None = None, method: str = "POST",
    protocol: str = "HTTP/1.1", loopback: bool = True,
) -> int:  # fmt: skip
    """The status of the refusal, or 0."""
    environ = {"REQUEST_METHOD": method, "SERVER_PROTOCOL": protocol}
    environ |= {"HTTP_HOST": host} if host is not None else {}
    environ |= {"HTTP_ORIGIN": origin} if origin is not None else {}
    try:
        check(environ, loopback=loopback)
    except ApiError as error:
        return error.status
    return 0


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "127.0.0.1", "localhost:8080", "LocalHost", "[::1]:8080", "[::1]",
     "127.0.0.2:80", "localhost:9000"],
)  # fmt: skip
def test_this_computers_own_names(host: str) -> None:
    assert verdict(host) == 0


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example:8080",
     "192.168.1.2:8080", "127.0.0.1, evil.example", "127.0.0.1:8080, 127.0.0.1:8080", "", "[::1",
     "[evil]", "0.0.0.0:8080", "evil@127.0.0.1", "127.0.0.1 ", "0x7f.1"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_rebound_name_is_refused(host: str, method: str) -> None:
    assert verdict(host, method=method) == 403


def test_a_missing_host_is_allowed_where_http_allows_it() -> None:
    assert verdict(None) == 400
    assert verdict(None, protocol="HTTP/1.0") == 0


def test_an_open_server_answers_to_any_name() -> None:
    assert verdict("box.lan:8080", loopback=False) == 0


@pytest.mark.parametrize("loopback", [True, False])
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 0), ("http://127.0.0.1:8080", 0), ("HTTP://127.0.0.1:8080", 0),
        ("https://127.0.0.1:8080", 0), ("null", 403), ("", 403), ("https://evil.example", 403),
        ("http://127.0.0.1:8081", 403), ("http://localhost:8080", 403), ("file://", 403),
        ("http://127.0.0.1:8080.evil.example", 403), ("http://127.0.0.1", 403),
    ],
)  # fmt: skip
def test_only_our_own_page_may_post(origin: str | None, status: int, loopback: bool) -> None:
    assert verdict(origin=origin, loopback=loopback) == status
    assert verdict(origin=origin, loopback=loopback, method="GET") == 0


def test_an_origin_without_a_host_is_refused() -> None:
    assert verdict(None, origin="http://None", protocol="HTTP/1.0") == 403


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a:1", "a"),
        ("a", "a"),
        ("[::1]:1", "[::1]"),
        ("[::1]", "[::1]"),
        ("[", ""),
        ("", ""),
        ("a:", ""),
        ("a:b", ""),
        ("a b", ""),
        ("a:1:2", ""),
    ],
)
def test_host_name(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
