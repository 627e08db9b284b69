"""Certificates and proxies: what the environment's ordinary clients would use."""

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamafile_build.components import Component, ComponentStore
from llamafile_build.errors import BuilderError

MakeStore = Callable[..., ComponentStore]
DATA = b"0123456789" * 1000


@pytest.fixture
def wanted(make_component: Callable[..., Component]) -> Component:
    return make_component("thing-1.bin", DATA)


@pytest.fixture
def certificate(tmp_path: Path, debian_tools: Callable[..., None]) -> Path:
    """A certificate and its key for 127.0.0.1, signed by nobody that anybody trusts."""
    debian_tools("openssl")
    path = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(path), "-out", str(tmp_path / "certificate.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + (tmp_path / "certificate.pem").read_text())
    return path


@pytest.fixture
def secure(serve: Any, clean_settings: Path, certificate: Path, monkeypatch: Any) -> Any:
    """A registry that is reached by HTTPS, with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setattr("llamafile_build.components.net.RETRIES", 0)
    with serve(lambda s: context.wrap_socket(s, server_side=True)) as registry:
        monkeypatch.setenv("PIP_INDEX_URL", registry.url().replace("http:", "https:"))
        yield registry


def test_strange_certificates_are_refused(
    secure: Any, make_store: MakeStore, wanted: Component
) -> None:
    secure.files[wanted.file] = DATA
    with pytest.raises(BuilderError, match="does not answer"):
        make_store().ensure([wanted])
    assert not secure.requests


@pytest.mark.parametrize(
    "variable", ["PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]
)
def test_certificates_of_the_environment(
    secure: Any,
    make_store: MakeStore,
    wanted: Component,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    secure.files[wanted.file] = DATA
    monkeypatch.setenv(variable, str(certificate.with_name("certificate.pem")))
    make_store().ensure([wanted])
    assert make_store().path(wanted).read_bytes() == DATA


def test_certificates_of_pip(
    secure: Any, make_store: MakeStore, wanted: Component, certificate: Path, clean_settings: Path
) -> None:
    secure.files[wanted.file] = DATA
    settings = clean_settings / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[global]\ncert = {certificate.with_name('certificate.pem')}\n")
    make_store().ensure([wanted])
    assert make_store().path(wanted).read_bytes() == DATA


def test_proxies_of_the_environment(
    registry: Any, make_store: MakeStore, wanted: Component, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.files[wanted.file] = DATA
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{registry.port}")
    monkeypatch.delenv("NO_PROXY")
    make_store().ensure([wanted])
    assert registry.requests[0][0] == "http://index.invalid/simple/some-thing/"
    assert make_store().path(wanted).read_bytes() == DATA
