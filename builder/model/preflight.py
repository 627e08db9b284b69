"""Checks on the model before anything is written: what would fail on the user's machine fails here.

llamafile's users met new models that died at start-up because the engine in the file did not know
them; here the builder refuses, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from llamafile_runtime.engine.template import TemplateFault, compile_template
from llamafile_runtime.format.config import PackedConfig
from llamafile_runtime.format.gguf import GGUF

from ..errors import InputError, UsageError
from .memory import MemoryEstimate, ModelShape, estimate_memory
from .source import ModelInput

_DEFAULT_CONTEXT = 8192


@dataclass(frozen=True)
class Preflight:
    """What the header says, and what a start will need.

    ``context`` is the number of tokens that the file starts with, ``trained_context`` the
    model's own limit; ``warnings`` are sentences for the user.
    """

    name: str
    architecture: str
    parameters: int
    quantization: str
    license: str | None
    trained_context: int
    context: int
    memory: MemoryEstimate
    warnings: tuple[str, ...]


def check_model(model: ModelInput, config: PackedConfig) -> Preflight:
    """Check that the bundled engine can load the model and render its chats.

    Raises InputError for an architecture that the engine does not know, UsageError for a packed
    chat template that is not valid Jinja.
    """
    header = model.header
    if not header.architecture:
        raise InputError(f"{model.name} does not name its architecture; it may not be a model")
    if header.architecture not in known_architectures():
        raise InputError(
            f"the engine in this version does not know the architecture {header.architecture!r} "
            f"of {model.name}; a newer llamafile-build may"
        )
    trained = header.context_length
    context = config.server.context or min(trained or _DEFAULT_CONTEXT, _DEFAULT_CONTEXT)
    return Preflight(
        name=model.title or header.name or model.name.removesuffix(".gguf"),
        architecture=header.architecture,
        parameters=header.parameters,
        quantization=header.quantization,
        license=header.license,
        trained_context=trained,
        context=context,
        memory=estimate_memory(header.tensor_bytes, model_shape(header), context),
        warnings=tuple(_warnings(model, config, context)),
    )


def known_architectures() -> frozenset[str]:
    """The architectures that the pinned llama.cpp loads (raised by ci/architectures.py)."""
    text = resources.files(__package__).joinpath("architectures.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def model_shape(header: GGUF) -> ModelShape:
    """The shape of the KV cache; fields that the header lacks take llama.cpp's defaults."""
    layers = _number(header, "block_count", 0)
    heads = _number(header, "attention.head_count", 1) or 1
    embedding = _number(header, "embedding_length", 0)
    return ModelShape(
        layers=layers,
        kv_heads=_number(header, "attention.head_count_kv", heads),
        key_length=_number(header, "attention.key_length", embedding // heads),
        value_length=_number(header, "attention.value_length", embedding // heads),
    )


def _number(header: GGUF, key: str, default: int) -> int:
    value = header.metadata.get(f"{header.architecture}.{key}")
    # A few architectures give one value for each layer; their arrays may be left unread.
    return value if isinstance(value, int) else default


def _warnings(model: ModelInput, config: PackedConfig, context: int) -> list[str]:
    header = model.header
    found = []
    if config.chat_template is not None:
        try:
            compile_template(config.chat_template)
        except TemplateFault as error:
            raise UsageError(f"the chat template cannot be used: {error}") from error
    elif header.chat_template is None:
        found.append("the model has no chat template: chats will use ChatML (--chat-template)")
    else:
        try:
            compile_template(header.chat_template)
        except TemplateFault as error:
            found.append(f"the model's chat template cannot be used, chats use ChatML: {error}")
    if header.context_length and context > header.context_length:
        found.append(
            f"a context of {context:,} tokens is more than the {header.context_length:,} "
            "that the model was trained on"
        )
    return found
