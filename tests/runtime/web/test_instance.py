"""Names of state files, addresses, and when a browser may be opened."""

import os
from pathlib import Path

import pytest

from llamafile_runtime.web.browser import can_open
from llamafile_runtime.web.instance import (
    Instance,
    http_url,
    instance_key,
    remove_state,
    write_state,
)


def test_a_key_tells_files_and_settings_apart(tmp_path: Path) -> None:
    file, other = tmp_path / "a.llamafile", tmp_path / "b.llamafile"
    file.write_bytes(b"a")
    other.write_bytes(b"a")
    os.utime(other, ns=(0, file.stat().st_mtime_ns))
    key = instance_key(file, 4096)
    assert len(key) == 16
    assert key == instance_key(file, 4096)
    assert len({key, instance_key(other, 4096), instance_key(file), instance_key(file, 1)}) == 4
    (tmp_path / "link").symlink_to(file)
    assert instance_key(tmp_path / "link", 4096) == key
    os.utime(file, ns=(0, 5))
    assert instance_key(file, 4096) != key


def test_the_state_file_is_ours_to_remove_only(tmp_path: Path) -> None:
    state = tmp_path / "run" / "x.json"
    write_state(state, Instance(1, "127.0.0.1", 8080, "ours"))
    remove_state(state, "another")
    assert state.exists()
    remove_state(state, "ours")
    remove_state(state, "ours")
    assert list(state.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "http://127.0.0.1:80/"), ("::1", "http://[::1]:80/")]
)
def test_http_url(host: str, url: str) -> None:
    assert http_url(host, 80) == url


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("win32", {}, True), ("darwin", {}, True), ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True), ("linux", {"DISPLAY": ""}, False),
        ("linux", {"WAYLAND_DISPLAY": "w"}, True), ("linux", {"BROWSER": "x"}, True),
    ],
)  # fmt: skip
def test_can_open(platform: str, environment: dict[str, str], expected: bool) -> None:
    assert can_open(platform, environment) is expected
