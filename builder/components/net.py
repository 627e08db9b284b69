"""One HTTP session that behaves as the environment's own clients do."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from .. import __version__

TIMEOUT = (15, 120)
"""Seconds to connect, and between two bytes."""

RETRIES = 5
"""How often a request is tried again when nobody answers, or somebody who is busy."""

_CA_VARIABLES = (
    "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "npm_config_cafile"
)  # fmt: skip


def open_session() -> requests.Session:
    """A session with retries, the environment's proxies and netrc, and its certificates."""
    session = requests.Session()
    session.headers["User-Agent"] = f"llamafile-build/{__version__}"
    retries = Retry(
        total=RETRIES,
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        respect_retry_after_header=True,
    )
    session.mount("https://", HTTPAdapter(max_retries=retries, pool_maxsize=16))
    session.mount("http://", HTTPAdapter(max_retries=retries, pool_maxsize=16))
    if bundle := certificate_bundle():
        session.verify = bundle
    return session


def certificate_bundle() -> str | None:
    """The CA file that pip or OpenSSL would use, or None for requests' own."""
    for variable in _CA_VARIABLES:
        if value := os.environ.get(variable):
            return value
    return pip_setting("cert")


def pip_setting(name: str) -> str | None:
    """A setting of the ``[global]`` or ``[install]`` section of pip's configuration files.

    The environment variable ``PIP_<NAME>`` wins, then the virtual environment's file, the user's
    and the system's (pip's user guide, "Configuration").
    """
    if value := os.environ.get("PIP_" + name.upper().replace("-", "_")):
        return value
    found = None
    for path in _pip_files():
        for section in ("global", "install"):
            found = _read_ini(path).get(section, name, fallback=found)
    return found


def _read_ini(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return configparser.RawConfigParser()
    return parser


def _pip_files() -> Iterator[Path]:
    """pip's configuration files, the strongest last."""
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    if os.environ.get("PIP_CONFIG_FILE") == os.devnull:
        return
    for folder in platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(
        os.pathsep
    ):
        yield Path(folder) / name
    if sys.platform != "win32":
        yield Path("/etc") / name
    yield Path.home() / (".pip" if sys.platform != "win32" else "pip") / name
    yield Path(platformdirs.user_config_dir("pip", appauthor=False, roaming=True)) / name
    yield Path(sys.prefix) / name
    if value := os.environ.get("PIP_CONFIG_FILE"):
        yield Path(value)
