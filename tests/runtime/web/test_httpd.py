"""Choosing an address to listen on."""

import socket
from contextlib import ExitStack

import pytest

from llamafile_runtime.errors import ServeError
from llamafile_runtime.web.httpd import listen


def free_run(count: int) -> int:
    """The first of ``count`` ports in a row that are free at the moment, above the usual range."""
    for port in range(20000, 60000, 50):
        with ExitStack() as stack:
            try:
                for offset in range(count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port + offset)))
            except OSError:
                continue
        return port
    raise AssertionError("no free ports")


def test_the_first_free_port_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_run(3)
    monkeypatch.setattr("llamafile_runtime.web.httpd._LAST_PORT", first + 2)
    with (
        socket.create_server(("127.0.0.1", first)),
        listen("127.0.0.1", None, first) as second,
        listen("localhost", None, first) as third,
        listen("127.0.0.1", None, first) as any_other,
    ):
        assert second.getsockname() == ("127.0.0.1", first + 1)
        assert third.getsockname() == ("127.0.0.1", first + 2)
        assert any_other.getsockname()[1] not in range(first, first + 3)


def test_a_port_that_was_just_given_up_can_be_had_again() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            accepted.close()  # first, so that the closed connection lingers on our side
            assert client.recv(1) == b""
    listen("127.0.0.1", port).close()


def test_a_taken_port_that_was_asked_for() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServeError, match=f"^port {port} is in use by another program"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a" * 300])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(ServeError) as caught:
        listen(host, 0)
    assert host in str(caught.value)


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("missing: IPv6 on the loopback interface")
    for host in ("::1", "[::1]"):
        with listen(host, 0) as listener:
            assert listener.getsockname()[0] == "::1"
