"""Resolve ci/components.toml into builder/components/lock.toml.

    python ci/raise_pins.py            fetch what is named there and write its digests
    python ci/raise_pins.py --check    the same, but only compare (exit 1 on a difference)

To raise a pin, change its version in ci/components.toml, run this, and read the difference. The
digests of whole Python files come from the index; members and npm files are fetched and hashed.
Needs the package's own dependencies.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import io
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from remotezip import RemoteZip

from llamafile_build.components.lock import Component, Member, parse_lock
from llamafile_build.components.net import TIMEOUT, open_session
from llamafile_build.components.registry import npm_registry, pypi_indexes

ROOT = Path(__file__).parent.parent
SPECIFICATION = ROOT / "ci" / "components.toml"
LOCK = ROOT / "builder" / "components" / "lock.toml"
HEADER = "# Written by ci/raise_pins.py from ci/components.toml. Do not edit.\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    options = parser.parse_args()
    text = render(resolve(tomllib.loads(SPECIFICATION.read_text(encoding="utf-8"))))
    parse_lock(text)
    if options.check:
        same = LOCK.read_text(encoding="utf-8") == text
        print("lock.toml is up to date" if same else "lock.toml is out of date")
        return 0 if same else 1
    LOCK.write_text(text, encoding="utf-8")
    print(f"wrote {LOCK.name}: {text.count('[[component]]')} components")
    return 0


def resolve(specification: dict[str, Any]) -> list[Component]:
    """Every component of the specification, with its digests, in its order."""
    extensions = specification["extension_modules"]
    wanted = [
        (item, python)
        for item in specification["component"]
        for python in item.get("pythons", [None])
    ]
    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(lambda pair: resolve_one(*pair, extensions), wanted))


def resolve_one(item: dict[str, Any], python: str | None, extensions: list[str]) -> Component:
    session = open_session()
    values = {"version": item["version"], "py": (python or "").replace(".", "")}
    pattern = item["file"].format(**values)
    find = find_npm if item["registry"] == "npm" else find_pypi
    file, url, sha256, size = find(session, item["name"], pattern)
    patterns = [
        text.replace("{version}", item["version"]).replace("{ext}", extension)
        for text in item.get("members", [])
        for extension in (extensions if "{ext}" in text else [""])
    ]
    members = tuple(sorted(read_members(session, url, patterns), key=lambda m: m.path))
    names = [member.path for member in members] or list_names(session, url)
    print(f"{file}: {len(members)} members", file=sys.stderr)
    return Component(
        id=item["id"].format(**values),
        registry=item["registry"],
        name=item["name"],
        version=item["version"],
        file=file,
        size=size,
        sha256=sha256,
        license=item["license"],
        upstream=item.get("upstream"),
        purpose=item["purpose"],
        mode="members" if members else "file",
        targets=tuple(item["targets"]) if "targets" in item else None,
        python=python,
        members=members,
        license_members=tuple(
            match(names, [p.replace("{version}", item["version"]) for p in item["license_members"]])
        ),
    )


def find_npm(session: requests.Session, name: str, file: str) -> tuple[str, str, str, int]:
    url = f"{npm_registry(name).rstrip('/')}/{name}/-/{file}"
    answer = session.get(url, timeout=TIMEOUT)
    answer.raise_for_status()
    return file, url, hashlib.sha256(answer.content).hexdigest(), len(answer.content)


def find_pypi(session: requests.Session, name: str, pattern: str) -> tuple[str, str, str, int]:
    page = f"{pypi_indexes()[0].rstrip('/')}/{name}/"
    answer = session.get(
        page, headers={"Accept": "application/vnd.pypi.simple.v1+json"}, timeout=TIMEOUT
    )
    answer.raise_for_status()
    found = [f for f in answer.json()["files"] if fnmatch.fnmatch(f["filename"], pattern)]
    if len(found) != 1:
        raise SystemExit(f"{name}: {len(found)} files match {pattern}")
    item = found[0]
    url = urljoin(answer.url, item["url"])
    return item["filename"], url, item["hashes"]["sha256"], item["size"]


def read_members(session: requests.Session, url: str, patterns: list[str]) -> Iterator[Member]:
    if not patterns:
        return
    if url.endswith((".tar.gz", ".tgz")):
        content = session.get(url, timeout=TIMEOUT).content
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            names = [entry.name for entry in archive if entry.isfile()]
            for name in match(names, patterns):
                file = archive.extractfile(name)
                yield pinned(name, file.read() if file else b"")
        return
    with RemoteZip(url, session=session) as wheel:
        for name in match(wheel.namelist(), patterns):
            yield pinned(name, wheel.read(name))


def list_names(session: requests.Session, url: str) -> list[str]:
    if url.endswith(".whl"):
        with RemoteZip(url, session=session) as wheel:
            return wheel.namelist()
    content = io.BytesIO(session.get(url, timeout=TIMEOUT).content)
    with tarfile.open(fileobj=content) as archive:
        return archive.getnames()


def match(names: list[str], patterns: list[str]) -> list[str]:
    return sorted({n for n in names for p in patterns if fnmatch.fnmatchcase(n, p)})


def pinned(path: str, data: bytes) -> Member:
    return Member(path, len(data), hashlib.sha256(data).hexdigest())


def render(components: list[Component]) -> str:
    return HEADER + "".join(render_one(component) for component in components)


def render_one(component: Component) -> str:
    lines = ["", "[[component]]"]
    for key in ("id", "registry", "name", "version", "file", "size", "sha256", "license",
                "upstream", "purpose", "mode", "python"):  # fmt: skip
        value = getattr(component, key)
        if value is not None:
            lines.append(f"{key} = {value}" if isinstance(value, int) else f'{key} = "{value}"')
    for key in ("targets", "license_members"):
        values = getattr(component, key)
        if values:
            lines.append(f"{key} = [{', '.join(chr(34) + v + chr(34) for v in values)}]")
    if component.members:
        lines.append("members = [")
        lines += [f'    ["{m.path}", {m.size}, "{m.sha256}"],' for m in component.members]
        lines.append("]")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
