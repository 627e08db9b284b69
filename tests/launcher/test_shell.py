"""The shell half of the launcher: every shell, every way to be started, every odd name."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

SHELLS = [["sh"], ["dash"], ["bash"], ["bash", "--posix"], ["zsh"], ["mksh"], ["busybox", "sh"]]
ODD_ARGUMENTS = ["", " ", "a b", "*", "$HOME", "`id`", "it's", '"', "\\", "é模", "-p", "--", "a\nb"]
ODD_NAMES = [
    "with space",
    'quote\'s "here"',
    "ünï 模型",
    "-dash",
    "new\nline",
    "$HOME;`id`",
    "*[a]?",
    "100%s",
    "back\\slash",
    "~",
    "Model.Q4_1.llamafile",
]


def shell_id(shell):
    return "-".join(part.strip("-") for part in shell)


@pytest.fixture(params=SHELLS, ids=shell_id)
def shell(request, debian_tools):
    debian_tools(request.param[0])
    return request.param


def test_given_to_a_shell(shell, packs, kit, place):
    made = kit.write(place.work / "it.llamafile", packs)
    for script in ("./it.llamafile", made.path, "it.llamafile"):
        for _ in ("first", "second"):
            result = place.run(*shell, script, *ODD_ARGUMENTS)
            assert kit.told(result) == [
                str(place.host(made)),
                "--archive",
                str(made.path),
                *ODD_ARGUMENTS,
            ]
            assert result.stderr == b""


@pytest.fixture
def starter(shell, packs):
    """A shell that starts the file itself; mksh does that only for a plain head."""
    return ["sh"] if shell == ["mksh"] and "windows_x64" in packs else shell


def test_mksh_refuses_what_begins_with_mz(kit, place, debian_tools):
    """README says `sh ./FILE` for it; when this fails, `starter` and that advice can go."""
    debian_tools("mksh")
    kit.write(place.work / "it", {"linux_x64": kit.unix_pack(), "windows_x64": b"x"})
    refused = place.run("mksh", "-c", "./it")
    assert refused.returncode == 126
    assert b"not executable: magic 4D5A" in refused.stderr


def test_started_directly_from_a_shell(starter, packs, kit, place):
    made = kit.write(place.work / "it", packs)
    result = place.run(*starter, "-c", './it "$@"', "x", *ODD_ARGUMENTS)
    assert kit.told(result)[2:] == [str(made.path), *ODD_ARGUMENTS]


def test_found_on_path(starter, packs, kit, place):
    made = kit.write(place.root / "my tools" / "answer", packs)
    path = f"/nowhere:{made.path.parent}:{os.environ['PATH']}"
    result = place.run(*starter, "-c", 'answer "$@"', "x", "a b", PATH=path)
    assert kit.told(result)[2:] == [str(made.path), "a b"]


def test_found_on_a_relative_path(starter, packs, kit, place):
    made = kit.write(place.work / "bin" / "answer", packs)
    result = place.run(*starter, "-c", "answer", PATH=f"bin:{os.environ['PATH']}")
    assert Path(kit.told(result)[2]) == made.path


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(shell, name, packs, kit, place):
    made = kit.write(place.work / name / name, packs)
    assert kit.told(place.run(*shell, f"./{name}", "x", cwd=made.path.parent))[2:] == [
        str(made.path),
        "x",
    ]
    assert kit.told(place.run(*shell, made.path))[2:] == [str(made.path)]


def test_odd_caches(shell, packs, kit, place):
    made = kit.write(place.work / "it", packs)
    for name in ODD_NAMES:
        cache = place.root / "caches" / name
        host = kit.told(place.run(*shell, "./it", XDG_CACHE_HOME=str(cache)))[0]
        assert host == str(cache / f"llamafile-build/runtime/{made.key('linux_x64')}/bin/llamafile")


def test_through_links(shell, packs, kit, place):
    kit.write(place.root / "real" / "it", packs)
    (place.work / "soft link").symlink_to("../real/it")
    (place.work / "twice").symlink_to("soft link")
    result = place.run(*shell, "./twice", "x")
    assert kit.told(result)[2:] == [str(place.work / "twice"), "x"]


def test_read_from_a_pipe_is_refused(shell, packs, kit, place):
    made = kit.write(place.work / "it", packs)
    with made.path.open("rb") as stream:
        result = place.run(*shell, stdin=stream.fileno())
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.decode() == (
        "llamafile: this script has to be started as a file, not read from a pipe: sh ./FILE\n"
    )


def test_stdin_and_exit_status_are_the_hosts(shell, packs, kit, place):
    kit.write(place.work / "it", packs)
    for _ in ("first", "second"):
        result = place.run(*shell, "./it", stdin=b"a\0b\n" * 5000, HOST_CAT="1", HOST_EXIT="37")
        assert result.returncode == 37
        assert result.stdout.endswith(b"\0" + b"a\0b\n" * 5000)


def test_a_hostile_environment(shell, packs, kit, place):
    made = kit.write(place.work / "it", packs)
    result = place.run(
        *shell,
        "-eu",
        "./it",
        IFS="/",
        ZSH_VERSION="5",
        CDPATH="/",
        GZIP="--fast",
        TAR_OPTIONS="--no-such-option",
        pack_linux_x64="0 1 0",
        slice="-i386",
        uid="99",
        host="/bin/false",
        root="/",
    )
    assert kit.told(result)[:3] == [str(place.host(made)), "--archive", str(made.path)]


def test_a_warm_start_needs_only_uname(shell, packs, kit, place):
    kit.write(place.work / "it", packs)
    kit.told(place.run(*shell, "./it"))
    tools = place.root / "only uname"
    tools.mkdir()
    for name in ("uname", shell[0]):
        (tools / name).symlink_to(
            subprocess.run(["which", name], capture_output=True, check=True).stdout.decode().strip()
        )
    before = sorted(place.cache.rglob("*"))
    # printf is what the stand-in host itself needs, and dash has it built in.
    result = place.run(*shell, "./it", "x", PATH=str(tools))
    assert kit.told(result)[3:] == ["x"]
    assert sorted(place.cache.rglob("*")) == before


def test_the_first_start_says_so_on_a_terminal(shell, packs, kit, place):
    kit.write(place.work / "it", packs)
    said = []
    for _ in ("first", "second"):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*shell, "./it"],
            cwd=place.work,
            env=place.environment(),
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        assert process.wait(timeout=60) == 0
        try:
            said.append(os.read(ours, 1000).decode())
        except OSError:  # Linux says EIO for a terminal without any writer
            said.append("")
        os.close(ours)
    assert said == ["it: first start: unpacking the runtime (0 MB) ...\r\n", ""]


def test_a_plain_head_is_a_program_to_the_kernel(kit, place):
    made = kit.write(place.work / "it", {"linux_x64": kit.unix_pack()})
    assert kit.told(place.run(made.path, "x"))[2:] == [str(made.path), "x"]


def test_a_polyglot_is_no_program_to_the_kernel(kit, place):
    """What README's `sh ./FILE` is about; when this fails, that advice can go."""
    packs = {"linux_x64": kit.unix_pack(), "windows_x64": b"x"}
    made = kit.write(place.work / "it", packs)
    if any(Path("/proc/sys/fs/binfmt_misc").glob("*wine*")):
        pytest.skip("binfmt_misc hands MZ files to Wine here")
    with pytest.raises(OSError, match="Exec format error"):
        place.run(made.path)
