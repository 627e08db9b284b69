"""Saying what a file that is no GGUF is instead, and what its owner can do."""

from __future__ import annotations

from pathlib import Path

_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the model itself: run `git lfs pull`"),
    (b"<!DOCTYPE", "is a web page, not a model: the download did not fetch the file itself"),
    (b"<html", "is a web page, not a model: the download did not fetch the file itself"),
    (b"ggml", "is an old GGML model: get the model again as GGUF"),
    (b"ggjt", "is an old GGML model: get the model again as GGUF"),
    (b"lmgg", "is an old GGML model: get the model again as GGUF"),
    (b"tjgg", "is an old GGML model: get the model again as GGUF"),
    (b"\x80", "looks like a Python pickle, not GGUF: convert the model to GGUF first"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it first"),
    (b"Rar!", "is a RAR archive: unpack it first"),
)


def describe(path: Path, start: bytes) -> str:
    """One sentence about a file whose first bytes are ``start``, for an error message."""
    if not start:
        return f"{path} is empty"
    if start.startswith(b"GGUF"):
        return f"{path} is a damaged GGUF file"
    for magic, sentence in _MAGICS:
        if start[: len(magic)].lower() == magic.lower():
            return f"{path} {sentence}"
    # A safetensors file begins with the length of its JSON header.
    if start[8:9] == b"{":
        return f"{path} looks like safetensors, not GGUF: convert the model to GGUF first"
    return f"{path} is not a GGUF model (its first bytes are {start[:4]!r})"


def describe_folder(path: Path) -> str:
    """One sentence about a folder that was given as the model."""
    if (path / "config.json").is_file():
        return (
            f"{path} is a Hugging Face model folder: convert it to GGUF first "
            "(convert_hf_to_gguf.py of llama.cpp)"
        )
    inside = sorted(path.glob("*.gguf"))
    if inside:
        return f"{path} is a folder: name a file in it, for example {inside[0]}"
    return f"{path} is a folder, not a .gguf file"
