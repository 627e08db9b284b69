"""Where a component's file can be fetched from: pip's and npm's own settings decide.

lock.toml holds no addresses, so that a mirror or a proxy of the registries serves as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

import requests

from ..errors import BuilderError
from .lock import Component
from .net import TIMEOUT, pip_setting

DEFAULT_PYPI = "https://pypi.org/simple"
DEFAULT_NPM = "https://registry.npmjs.org"

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"


class RegistryError(BuilderError):
    """A registry does not have the file, or does not answer."""


@dataclass(frozen=True)
class Location:
    """A file's address, and the headers that its registry wants."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


def locate(component: Component, session: requests.Session) -> Location:
    """Where a component's file is. Raises RegistryError."""
    if component.registry == "npm":
        return npm_location(component)
    return Location(pypi_url(component, session))


def npm_location(component: Component) -> Location:
    """The tarball's address as every npm registry forms it, with .npmrc's token for it."""
    base = npm_registry(component.name).rstrip("/")
    token = npm_settings().get(f"//{base.partition('//')[2]}/:_authToken")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Location(f"{base}/{component.name}/-/{component.file}", headers)


def npm_registry(package: str) -> str:
    """The registry for a package: that of its scope, that of npm's settings, or the default."""
    settings = npm_settings()
    scope = package.split("/")[0]
    return settings.get(f"{scope}:registry") or settings.get("registry") or DEFAULT_NPM


def npm_settings() -> dict[str, str]:
    """npm's settings: those of the user's .npmrc, then those of the environment, which win."""
    named = _environment_setting("userconfig")
    settings = _npmrc(Path(named) if named else Path.home() / ".npmrc")
    if registry := _environment_setting("registry"):
        settings["registry"] = registry
    return settings


def _environment_setting(name: str) -> str | None:
    variable = f"npm_config_{name}"
    return os.environ.get(variable) or os.environ.get(variable.upper())


def _npmrc(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.partition("=") for line in lines if not line.lstrip().startswith(("#", ";")))
    return {
        key.strip(): _with_variables(value.strip().strip("\"'"))
        for key, equals, value in pairs
        if equals
    }


def _with_variables(value: str) -> str:
    """npm puts environment variables in the place of ``${NAME}``."""
    return re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), value)


def pypi_url(component: Component, session: requests.Session) -> str:
    """The file's address from the first index that lists it (PEP 691, or PEP 503 in HTML)."""
    problem = "no package index is set"
    for index in pypi_indexes():
        page = f"{index.rstrip('/')}/{_normalized(component.name)}/"
        public = _with_login(index, "")
        try:
            answer = session.get(page, headers={"Accept": _ACCEPT}, timeout=TIMEOUT)
            answer.raise_for_status()
        except requests.HTTPError as error:
            problem = f"{public} answers {error.response.status_code} {error.response.reason}"
            continue
        except requests.RequestException as error:
            problem = f"{public} does not answer ({type(error).__name__})"
            continue
        if url := find_file(answer, component.file):
            return _with_login_of(index, url)
        problem = f"{public} does not list {component.file}"
    raise RegistryError(f"{component.name} {component.version} cannot be fetched: {problem}")


def pypi_indexes() -> list[str]:
    """The indexes that pip would ask, without those that are folders."""
    indexes = [pip_setting("index-url") or DEFAULT_PYPI]
    indexes += (pip_setting("extra-index-url") or "").split()
    return [index for index in indexes if index.startswith(("https://", "http://"))]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def find_file(answer: requests.Response, file: str) -> str | None:
    """The address of a file that a project's page lists, or None."""
    if "json" in answer.headers.get("Content-Type", ""):
        for item in answer.json()["files"]:
            if item["filename"] == file:
                return urljoin(answer.url, str(item["url"]))
        return None
    links = _Links()
    links.feed(answer.text)
    for link in links.found:
        url = urldefrag(urljoin(answer.url, link)).url
        if unquote(urlsplit(url).path).rsplit("/", 1)[-1] == file:
            return url
    return None


class _Links(HTMLParser):
    """The ``href`` of every anchor of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for key, value in attrs if key == "href" and value]


def _with_login_of(index: str, url: str) -> str:
    """pip sends the login that stands in an index's address to files on the same host, too."""
    login, at, host = urlsplit(index).netloc.rpartition("@")
    same = urlsplit(url).netloc == host and urlsplit(url).scheme == urlsplit(index).scheme
    return _with_login(url, login + at) if at and same else url


def _with_login(url: str, login: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=login + parts.netloc.rpartition("@")[2]))
