"""Joining split models: parts made by llama.cpp's own Python writer, read back by its reader."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from llamafile_build.console import Console
from llamafile_build.errors import InputError
from llamafile_build.model.source import open_model


def write_parts(folder: Path, per_part: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    tensors = {
        f"blk.{i}.weight": random.random((3 + i, 32 + 32 * i), dtype=np.float32) for i in range(8)
    }
    writer = GGUFWriter(folder / "toy.gguf", "llama", split_max_tensors=per_part)
    writer.add_block_count(8)
    writer.add_token_list(["a", "b"])
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def join(path: Path, out: Path) -> None:
    model = open_model(str(path), Console(quiet=True))
    reader = model.open()
    with out.open("wb") as file:
        buffer = memoryview(bytearray(1000))
        while count := reader.readinto(buffer):
            file.write(buffer[:count])
    reader.close()
    assert out.stat().st_size == model.size


def test_joined_model_has_every_tensor_and_no_split_keys(tmp_path: Path) -> None:
    tensors = write_parts(tmp_path)
    first = tmp_path / "toy-00001-of-00003.gguf"
    out = tmp_path / "joined.gguf"
    join(first, out)
    joined = GGUFReader(out)
    assert {t.name: t.data.tobytes() for t in joined.tensors} == {
        name: tensor.tobytes() for name, tensor in tensors.items()
    }
    assert not [key for key in joined.fields if key.startswith("split.")]
    assert joined.fields["llama.block_count"].contents() == 8
    assert joined.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]
    model = open_model(str(first), Console(quiet=True))
    assert model.name == "toy.gguf"
    assert len(model.paths) == 3


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    write_parts(tmp_path)
    (tmp_path / "toy-00002-of-00003.gguf").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of 3 parts: toy-00002-of-00003\.gguf"):
        open_model(str(tmp_path / "toy-00001-of-00003.gguf"), Console(quiet=True))


def test_another_part_than_the_first_is_refused(tmp_path: Path) -> None:
    write_parts(tmp_path)
    with pytest.raises(InputError, match="toy-00001-of-00003"):
        open_model(str(tmp_path / "toy-00002-of-00003.gguf"), Console(quiet=True))


def test_parts_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    write_parts(tmp_path)
    second, third = (tmp_path / f"toy-0000{n}-of-00003.gguf" for n in (2, 3))
    swap = tmp_path / "swap"
    second.rename(swap)
    third.rename(second)
    swap.rename(third)
    with pytest.raises(InputError, match="does not say that it is part 2"):
        open_model(str(tmp_path / "toy-00001-of-00003.gguf"), Console(quiet=True))
