"""Where a component's file can be fetched from: pip's and npm's own settings decide.

lock.toml holds no addresses, so that a mirror or a proxy of the registries serves as well.
"""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import requests

from ..errors import BuilderError
from .lock import Component
from .net import TIMEOUT, pip_setting

DEFAULT_PYPI = "https://pypi.org/simple"
DEFAULT_NPM = "https://registry.npmjs.org"


class RegistryError(BuilderError):
    """A registry does not have the file, or does not answer."""


def file_url(component: Component, session: requests.Session) -> str:
    """The address of a component's file. Raises RegistryError."""
    if component.registry == "npm":
        return npm_url(component)
    return pypi_url(component, session)


def npm_url(component: Component) -> str:
    """The tarball's address as every npm registry forms it."""
    base = npm_registry(component.name)
    return f"{base.rstrip('/')}/{component.name}/-/{component.file}"


def npm_registry(package: str) -> str:
    """The registry for a package: npm's environment variable, its .npmrc files, or the default."""
    for variable in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if value := os.environ.get(variable):
            return value
    scope = package.split("/")[0] if package.startswith("@") else None
    settings = _npmrc()
    return settings.get(f"{scope}:registry") or settings.get("registry") or DEFAULT_NPM


def _npmrc() -> dict[str, str]:
    path = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.partition("=") for line in lines if not line.lstrip().startswith(("#", ";")))
    return {key.strip(): value.strip().strip('"') for key, equals, value in pairs if equals}


def pypi_url(component: Component, session: requests.Session) -> str:
    """The file's address from the first index that lists it (PEP 691, or PEP 503 in HTML)."""
    problem = "no package index is set"
    for index in pypi_indexes():
        page = f"{index.rstrip('/')}/{_normalized(component.name)}/"
        try:
            answer = session.get(page, headers={"Accept": _ACCEPT}, timeout=TIMEOUT)
            answer.raise_for_status()
        except requests.RequestException as error:
            problem = f"{index}: {error}"
            continue
        if url := _find_file(answer, component.file):
            return url
        problem = f"{index} does not list {component.file}"
    raise RegistryError(f"{component.name} {component.version} cannot be fetched: {problem}")


_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"


def pypi_indexes() -> list[str]:
    """The indexes that pip would ask, without those that are folders."""
    indexes = [pip_setting("index-url") or DEFAULT_PYPI]
    indexes += (pip_setting("extra-index-url") or "").split()
    return [index for index in indexes if index.startswith(("https://", "http://"))]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def _find_file(answer: requests.Response, file: str) -> str | None:
    if "json" in answer.headers.get("Content-Type", ""):
        for item in answer.json()["files"]:
            if item["filename"] == file:
                return urljoin(answer.url, item["url"])
        return None
    links = _Links()
    links.feed(answer.text)
    for link in links.found:
        url = urldefrag(urljoin(answer.url, link)).url
        if url.rsplit("/", 1)[-1] == file:
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
