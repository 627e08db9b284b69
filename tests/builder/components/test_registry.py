"""Which registry is asked, and how: pip's and npm's own settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamafile_build.components import Component, ComponentStore
from llamafile_build.components.registry import npm_location, npm_registry, pypi_indexes
from llamafile_build.errors import BuilderError

MakeStore = Callable[..., ComponentStore]
MakeComponent = Callable[..., Component]
DATA = b"0123456789" * 1000


@pytest.fixture
def wanted(make_component: MakeComponent) -> Component:
    return make_component("thing-1.bin", DATA)


@pytest.mark.parametrize("html", [False, True])
def test_both_forms_of_an_index(
    registry: Any, make_store: MakeStore, wanted: Component, html: bool
) -> None:
    registry.html = html
    registry.files[wanted.file] = DATA
    make_store().ensure([wanted])
    assert make_store().path(wanted).read_bytes() == DATA
    assert registry.requests[0][0] == "/simple/some-thing/"  # PEP 503's normal form of Some.Thing


def test_the_extra_index_is_asked_too(
    registry: Any,
    serve: Any,
    make_store: MakeStore,
    wanted: Component,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serve(files={wanted.file: DATA}) as other:
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", other.url())
        make_store().ensure([wanted])
        assert registry.requests[0][0] == other.requests[0][0] == "/simple/some-thing/"


def test_an_index_with_a_login(
    registry: Any, make_store: MakeStore, wanted: Component, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.files[wanted.file] = DATA
    registry.login = "me:secret"
    monkeypatch.setenv("PIP_INDEX_URL", registry.url("me:wrong@"))
    with pytest.raises(BuilderError, match=r"127\.0\.0\.1.* answers 401") as failure:
        make_store().ensure([wanted])
    assert "wrong" not in str(failure.value)
    monkeypatch.setenv("PIP_INDEX_URL", registry.url("me:secret@"))
    make_store().ensure([wanted])
    assert make_store().path(wanted).read_bytes() == DATA


def test_a_login_from_netrc(
    registry: Any, make_store: MakeStore, wanted: Component, clean_settings: Path
) -> None:
    registry.files[wanted.file] = DATA
    registry.login = "me:secret"
    netrc = clean_settings / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    make_store().ensure([wanted])
    assert make_store().path(wanted).read_bytes() == DATA


def test_an_unreachable_index(
    clean_settings: Path,
    make_store: MakeStore,
    wanted: Component,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setattr("llamafile_build.components.net.RETRIES", 0)
    with pytest.raises(BuilderError, match=r"127\.0\.0\.1:9/simple does not answer"):
        make_store().ensure([wanted])


def test_pip_configuration_files(clean_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(pypi_indexes()) == 1
    user = clean_settings / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nindex-url = https://user.example/simple\n")
    assert pypi_indexes() == ["https://user.example/simple"]
    named = clean_settings / "named.conf"
    named.write_text(
        "[install]\nextra-index-url =\n    https://a.example/\n    https://b.example/\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
    assert pypi_indexes() == [
        "https://user.example/simple", "https://a.example/", "https://b.example/"
    ]  # fmt: skip
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment.example/simple")
    assert pypi_indexes()[0] == "https://environment.example/simple"


def test_npm_settings(
    clean_settings: Path, monkeypatch: pytest.MonkeyPatch, make_component: MakeComponent
) -> None:
    public = npm_registry("@scope/name")
    (clean_settings / ".npmrc").write_text(
        "; comment\nregistry=https://mirror.example/npm/\n"
        "@scope:registry = https://scope.example/npm\n//scope.example/npm/:_authToken=${TOKEN}\n"
    )
    monkeypatch.setenv("TOKEN", "t0ken")
    assert public != npm_registry("name") == "https://mirror.example/npm/"
    location = npm_location(make_component("name-1.tgz", b"", registry="npm", name="@scope/name"))
    assert location.url == "https://scope.example/npm/@scope/name/-/name-1.tgz"
    assert location.headers == {"Authorization": "Bearer t0ken"}
    assert not npm_location(make_component("a-1.tgz", b"", registry="npm", name="a")).headers
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://environment.example/")
    assert npm_registry("name") == "https://environment.example/"
    assert npm_registry("@scope/name") == "https://scope.example/npm"


def test_npm_tarball(registry: Any, make_store: MakeStore, make_component: MakeComponent) -> None:
    wanted = make_component("thing-1.tgz", DATA, registry="npm", name="@scope/thing")
    registry.files[wanted.file] = DATA
    make_store().ensure([wanted])
    assert [path for path, _ in registry.requests] == ["/npm/@scope/thing/-/thing-1.tgz"]


def test_no_address_is_written_but_once() -> None:
    """The public registries' names stand in registry.py alone: mirrors must do as well."""
    root = Path(__file__).parents[3]
    hosts = ("pypi" + ".org", "python" + "hosted", "npm" + "js.")
    found = {
        path.name
        for folder in ("builder", "runtime", "ci", "launcher_templates", "bench")
        for path in (root / folder).rglob("*")
        if path.suffix in (".py", ".toml", ".sh", ".c", ".json", ".txt")
        and any(host in path.read_text(encoding="utf-8") for host in hosts)
    }
    assert found == {"registry.py"}
