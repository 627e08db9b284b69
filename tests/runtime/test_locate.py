"""Which archive, which cache, which machine."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from llamafile_runtime import locate
from llamafile_runtime.errors import RuntimeFailure


@pytest.mark.parametrize(
    ("arguments", "archive", "rest"),
    [
        (["--archive", "/a b", "-p", "x"], "/a b", ["-p", "x"]),
        (["-p", "--archive", "/a"], None, ["-p", "--archive", "/a"]),
        (["--archive"], None, ["--archive"]),
        ([], None, []),
    ],
)
def test_only_the_first_option_names_the_archive(
    arguments: list[str], archive: str | None, rest: list[str]
) -> None:
    assert locate.split_arguments(arguments) == (Path(archive) if archive else None, rest)


def test_a_frozen_runtime_keeps_its_launchers_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = tmp_path / "root" / "runtime" / "0123456789abcdef" / "bin" / "llamafile"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(host))
    assert locate.cache_root() == (tmp_path / "root").resolve()


def test_an_unfrozen_runtime_takes_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
        assert locate.cache_root() == Path("/somewhere/llamafile-build")
    assert locate.cache_root().name in ("llamafile-build", "Cache")


def test_this_machine_is_a_target() -> None:
    system = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
    assert locate.host_target().name.startswith(system)


def test_a_machine_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "sunos5")
    with pytest.raises(RuntimeFailure, match="sunos5"):
        locate.host_target()
