"""The command line, run as a program on a real file."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from llamafile_runtime.format.gguf import read_gguf

from .conftest import SMALL, Run, write_archive

FRANCE = r"<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
STORY = FRANCE.replace("What is the capital of France?", "Tell me a long story.")
PARIS = "The capital of France is Paris.\n"


def command(file: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "llamafile_runtime", "--archive", str(file), *arguments]


def test_string_in_string_out(file: Path, run: Run) -> None:
    done = run(file, "-p", FRANCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, PARIS, "")


def test_prompts_from_files_and_pipes(file: Path, run: Run, tmp_path: Path) -> None:
    prompt = FRANCE.replace(r"\n", "\n")
    path = tmp_path / "prompt.txt"
    path.write_text(prompt, encoding="utf-8")
    assert run(file, "-f", str(path)).stdout == PARIS
    piped = {"stdin": None, "input": prompt}
    assert run(file, "-p", "-", **piped).stdout == PARIS
    assert run(file, **piped).stdout == PARIS
    with path.open() as redirected:
        assert run(file, stdin=redirected).stdout == PARIS


def test_escapes_can_be_turned_off(file: Path, run: Run) -> None:
    raw = FRANCE.replace(r"\n", "\n")
    assert run(file, "--no-escape", "-p", raw).stdout == PARIS
    assert run(file, "--no-escape", "-n", "4", "-p", FRANCE).stdout != PARIS[:20]


def test_options_of_other_programs_are_taken(file: Path, run: Run) -> None:
    options = ("-ngl", "99", "--mlock", "--log-disable", "-no-cnv", "--temp", "0", "-s", "1", "-e")
    assert run(file, *options, "-p", FRANCE).stdout == PARIS


def test_unicode_in_the_c_locale(file: Path, run: Run, environment: dict[str, str]) -> None:
    plain = {**environment, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = ("-p", "Ü😀 the colours are: rot, grün, ", "-n", "8")
    done = run(file, *arguments, env=plain)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run(file, *arguments).stdout


def test_chat_goes_through_the_template(file: Path, run: Run) -> None:
    said = "Hello.\n/help\nWho are you?\n/clear\n\nHello.\n/exit\nnever asked\n"
    done = run(file, "chat", "-n", "6", "-sys", "Be brief.", stdin=None, input=said)
    assert done.returncode == 0, done.stderr
    assert "/clear" in done.stderr
    first, second, third = done.stdout.splitlines()
    system = r"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n"
    prompt = rf"{system}<|im_start|>assistant\n"
    assert first == third == run(file, "-n", "6", "-p", prompt).stdout.rstrip("\n")
    prompt += (
        rf"{first}<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert second == run(file, "-n", "6", "-p", prompt).stdout.rstrip("\n")


def test_chat_goes_on_after_a_message_that_does_not_fit(file: Path, run: Run) -> None:
    said = "word " * 2000 + "\nHi\n"
    done = run(file, "chat", "-n", "4", stdin=None, input=said)
    assert done.returncode == 0
    assert "context holds 1024" in done.stderr
    assert done.stdout.strip()


@pytest.mark.skipif(os.name == "nt", reason="needs Unix signals")
def test_ctrl_c_ends_quietly(file: Path, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        command(file, "-p", STORY), env=environment, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A shell's background job, which this may be, ignores the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate()
    assert process.returncode == 130
    assert complaints == ""


@pytest.mark.skipif(os.name == "nt", reason="needs Unix pipes")
def test_a_reader_that_leaves_ends_it_quietly(file: Path, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        command(file, "-p", STORY), env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_model_is_mapped_from_the_file_itself(
    file: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command(file, "-p", STORY), env={**environment, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.read(1)
        maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    finally:
        process.kill()
        process.communicate()
    mapped = 0
    for line in maps.splitlines():
        span, _, _, _, _, *name = line.split(maxsplit=5)
        if name == [str(file)]:
            start, end = (int(edge, 16) for edge in span.split("-"))
            mapped += end - start
    with zipfile.ZipFile(file) as archive:
        size = archive.getinfo("model/smollm2.gguf").file_size
    assert mapped > size * 0.9
    assert list(tmp_path.iterdir()) == []
    cache = Path(environment["XDG_CACHE_HOME"])
    assert all(path.stat().st_size < size // 4 for path in cache.rglob("*") if path.is_file())


def test_version_and_info(file: Path, run: Run) -> None:
    assert run(file, "--version").stdout == "Test (llamafile-build 0, llama.cpp v0)\n"
    text = run(file, "info").stdout
    assert "135M parameters, Q4_1, context 8,192" in text
    assert "model/smollm2.gguf" in text
    document = json.loads(run(file, "info", "--json").stdout)
    assert document["model"]["metadata"]["general.architecture"] == "llama"
    assert document["manifest"]["members"]
    assert document["config"]["server"]["context"] == 1024


def test_help_hides_the_launchers_option(file: Path, run: Run) -> None:
    done = run(file, "--help")
    assert done.returncode == 0
    assert "--archive" not in done.stdout
    assert f"Usage: {file.name}" in done.stdout


def test_verify(file: Path, run: Run, small_file: Path) -> None:
    assert run(file, "verify").returncode == 0
    data = bytearray(small_file.read_bytes())
    place = data.index(b"A licence.")
    data[place] ^= 1
    small_file.write_bytes(data)
    done = run(small_file, "verify")
    assert done.returncode == 1
    assert "licenses/one.txt" in done.stderr


def test_extract(run: Run, small_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(small_file, "extract", "licenses/one.txt", "-o", str(out))
    assert done.stdout.strip() == str(out / "licenses" / "one.txt")
    assert (out / "licenses" / "one.txt").read_text() == "A licence."
    done = run(small_file, "extract", "--all", "-o", str(out))
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert run(small_file, "extract", "--all", "--force", "-o", str(out)).returncode == 0
    with zipfile.ZipFile(small_file) as archive:
        for name in archive.namelist():
            assert (out / name).read_bytes() == archive.read(name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bogus"], "--bogus"),
        (["What is this?"], "use -p"),
        (["--temp", "nan", "-p", "x"], "between 0 and 100"),
        (["-t", "0", "-p", "x"], "between 1 and 1024"),
        (["-p", "x", "chat"], "without a command"),
        (["-p", "x", "-f", "y"], "either -p or -f"),
        (["extract"], "--all"),
    ],
)
def test_usage_errors(file: Path, run: Run, arguments: list[str], words: str) -> None:
    done = run(file, *arguments)
    assert done.returncode == 2
    assert re.fullmatch(rf"{re.escape(file.name)}: error: .*{re.escape(words)}.*\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-f", "/nowhere"], "/nowhere cannot be read"),
        (["-p", ""], "empty"),
        (["-p", "word " * 1200], "context holds 1024"),
        (["-m", "/nowhere.gguf", "-p", "x"], "cannot be read"),
        (["-m", sys.executable, "-p", "x"], "neither a GGUF"),
        (["extract", "nothing"], "no member nothing"),
    ],
)
def test_failures(file: Path, run: Run, arguments: list[str], words: str) -> None:
    done = run(file, *arguments)
    assert done.returncode == 1
    assert re.fullmatch(rf"{re.escape(file.name)}: error: .*{re.escape(words)}.*\n", done.stderr)


def test_without_a_file_it_says_what_to_do(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llamafile_runtime", "-p", "x"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "--archive FILE" in done.stderr


def test_another_machines_file_is_told(run: Run, tmp_path: Path) -> None:
    members = {name: data for name, data in SMALL.items() if not name.startswith("native/")}
    path = write_archive(tmp_path / "other", members, manifest={"targets": ["windows-x64"]})
    done = run(path, "-p", "x")
    assert done.returncode == 1
    assert "was built for windows-x64" in done.stderr


def test_outside_weights(file: Path, run: Run, smollm2: Path, tmp_path: Path) -> None:
    # The file's own temperature of 0 belongs to its own model.
    assert run(file, "-m", str(smollm2), "--temp", "0", "-p", FRANCE).stdout == PARIS
    assert run(file, "-m", str(file), "-p", FRANCE).stdout == PARIS
    foreign = tmp_path / "foreign.llamafile"
    with foreign.open("wb") as out, zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("weights.gguf")
        out.write(bytes(-(30 + len(info.filename)) % 32))
        archive.start_dir = out.tell()
        archive.writestr(info, smollm2.read_bytes())
    assert run(file, "-m", str(foreign), "--temp", "0", "-p", FRANCE).stdout == PARIS


def split(model: Path, folder: Path) -> list[Path]:
    """Two parts of a model, as llama.cpp's gguf-split makes them."""
    data = model.read_bytes()
    with model.open("rb") as source:
        header = read_gguf(source)
    pairs = [data[start:end] for start, end in header.spans.values()]
    half = len(header.tensors) // 2
    paths = []
    for number, tensors in enumerate((header.tensors[:half], header.tensors[half:])):
        own = [
            _pair("split.no", 2, struct.pack("<H", number)),
            _pair("split.count", 2, struct.pack("<H", 2)),
            _pair("split.tensors.count", 5, struct.pack("<i", len(header.tensors))),
        ]
        own += pairs if number == 0 else []
        out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(own)) + b"".join(own))
        body = bytearray()
        for tensor in tensors:
            out += _text(tensor.name) + struct.pack("<I", len(tensor.shape))
            out += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
            out += struct.pack("<IQ", tensor.type_number, len(body))
            start = header.data_offset + tensor.offset
            body += data[start : start + tensor.size]
            body += bytes(-len(body) % 32)
        path = folder / f"m-0000{number + 1}-of-00002.gguf"
        path.write_bytes(out + bytes(-len(out) % 32) + body)
        paths.append(path)
    return paths


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def test_a_split_model_is_loaded_by_its_first_part(
    file: Path, run: Run, smollm2: Path, tmp_path: Path
) -> None:
    first, later = split(smollm2, tmp_path)
    assert run(file, "-m", str(first), "--temp", "0", "-p", FRANCE).stdout == PARIS
    done = run(file, "-m", str(later), "-p", "x")
    assert done.returncode == 1
    assert first.name in done.stderr


def test_serving(file: Path, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        command(file, "serve", "--no-browser", "--port", "0"), env=environment,
        stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{url[0]}health") as answer:
                    assert json.load(answer)["status"] == "ok"
                    break
            except OSError:
                time.sleep(0.05)
        else:
            pytest.fail("it never became ready")
    finally:
        process.terminate()
        process.wait()
