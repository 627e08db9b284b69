"""The header reader against the gguf package, then against damaged headers."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from llamafile_runtime.format.gguf import ArrayInfo, GGUFError, read_gguf


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Kleines Modell ü")
    writer.add_context_length(512)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_chat_template("{{ messages }}")
    writer.add_bool("test.yes", True)
    writer.add_float64("test.half", 0.5)
    writer.add_int8("test.minus", -3)
    writer.add_array("test.words", ["a", "bb", ""])
    writer.add_array("test.numbers", [1, 2, 3, 4])
    writer.add_tensor("a.weight", np.arange(96, dtype=np.float32).reshape(3, 32))
    quantized = gguf.quantize(np.ones((2, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("b.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_reads_what_the_gguf_package_writes(small: Path) -> None:
    with small.open("rb") as file:
        header = read_gguf(file)
    assert header.version == 3
    assert header.architecture == "llama"
    assert header.name == "Kleines Modell ü"
    assert header.context_length == 512
    assert header.quantization == "Q8_0"
    assert header.chat_template == "{{ messages }}"
    assert header.metadata["test.yes"] is True
    assert header.metadata["test.half"] == 0.5
    assert header.metadata["test.minus"] == -3
    words = header.metadata["test.words"]
    assert isinstance(words, ArrayInfo)
    assert words.length == 3
    assert [tensor.shape for tensor in header.tensors] == [(32, 3), (64, 2)]
    assert header.parameters == 96 + 128


def test_agrees_with_the_gguf_package_on_a_real_model(smollm2: Path) -> None:
    reader = gguf.GGUFReader(smollm2)
    with smollm2.open("rb") as file:
        header = read_gguf(file)
    assert header.data_offset == reader.data_offset
    theirs = {
        t.name: (tuple(int(n) for n in t.shape), int(t.tensor_type), int(t.n_bytes),
                 int(t.data_offset) - reader.data_offset)
        for t in reader.tensors
    }  # fmt: skip
    ours = {t.name: (t.shape, t.type_number, t.size, t.offset) for t in header.tensors}
    assert ours == theirs
    assert set(header.metadata) == {key for key in reader.fields if not key.startswith("GGUF.")}
    assert header.quantization == "Q4_1"
    assert header.parameters == 134_515_008


def test_reads_at_an_offset(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    with io.BytesIO(bytes(1000) + data + b"more") as file:
        inside = read_gguf(file, offset=1000, size=len(data))
    with small.open("rb") as file:
        assert inside == read_gguf(file)


def test_quantization_without_a_file_type_is_what_most_weights_have(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("a", np.ones((4, 4), np.float32))
    writer.add_tensor("b", np.ones((8, 8), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with path.open("rb") as file:
        assert read_gguf(file).quantization == "F16"


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def header(tensors: int, pairs: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def nested(depth: int) -> bytes:
    return struct.pack("<IQ", 9, 1) * depth + struct.pack("<IQ", 0, 0)


BROKEN = {
    "magic": b"GGML" + bytes(100),
    "empty": b"",
    "version 1": header(0, 0, version=1),
    "version 9": header(0, 0, version=9),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "cut off": header(0, 1, string(b"key") + struct.pack("<IQ", 8, 50) + bytes(20)),
    "room for": header(1 << 60, 0, bytes(100)),
    "metadata entries": header(0, 1 << 60, bytes(100)),
    "allowed": header(0, 1, struct.pack("<Q", 1 << 40) + bytes(100)),
    "unknown type": header(0, 1, string(b"k") + struct.pack("<I", 99) + bytes(20)),
    "array elements": header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 4, 1 << 50)),
    "too deep": header(0, 1, string(b"k") + struct.pack("<I", 9) + nested(50) + bytes(99)),
    "twice": header(0, 2, (string(b"k") + struct.pack("<IB", 0, 1)) * 2),
    "not UTF-8": header(0, 1, string(b"\xff\xfe") + struct.pack("<IB", 0, 1)),
    "alignment": header(0, 1, string(b"general.alignment") + struct.pack("<II", 4, 7)),
    "dimensions": header(1, 0, string(b"t") + struct.pack("<I", 9) + bytes(200)),
    "missing at its end": header(
        1, 0, string(b"t") + struct.pack("<IQIQ", 1, 1 << 40, 0, 0) + bytes(64)
    ),
    "shape": header(1, 0, string(b"t") + struct.pack("<IQIQ", 1, 31, 8, 0) + bytes(64)),
    "aligned": header(1, 0, string(b"t") + struct.pack("<IQIQ", 1, 1, 0, 3) + bytes(64)),
    "more than any": header(200_000, 0, bytes(200_000 * 24)),
}


@pytest.mark.parametrize("words", BROKEN)
def test_says_what_is_wrong(words: str) -> None:
    with pytest.raises(GGUFError, match=words):
        read_gguf(io.BytesIO(BROKEN[words]))


def test_any_change_or_cut_gives_a_header_or_a_clear_fault(small: Path) -> None:
    data = small.read_bytes()
    chance = random.Random(20)
    for _ in range(4000):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(changed))
            changed[place : place + chance.choice((0, 1, 4, 8))] = chance.randbytes(
                chance.choice((0, 1, 4, 8))
            )
        if chance.random() < 0.3:
            del changed[chance.randrange(len(changed)) :]
        try:
            found = read_gguf(io.BytesIO(bytes(changed)))
        except GGUFError:
            continue
        assert found.data_offset <= len(changed) + found.alignment
