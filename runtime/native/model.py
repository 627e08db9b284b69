"""A loaded model and its vocabulary."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

from ..errors import BadRequest, ModelError
from ..format.ggmltypes import FILE_TYPES
from .log import Log
from .weights import Weights, c_file

_MAX_PIECE = 256  # bytes; few tokens have more than 64
_MAX_TEXT = 1 << 30


class Model:
    """llama.cpp's model. Not thread-safe but for ``tokenize`` and ``piece``.

    ``handle`` and ``vocab`` are the pointers that llama.cpp's functions want.
    """

    def __init__(self, api: Any, handle: Any) -> None:
        self.api = api
        self.handle = handle
        self.vocab = api.llama_model_get_vocab(handle)
        self.vocabulary = int(api.llama_vocab_n_tokens(self.vocab))
        self.parameters = int(api.llama_model_n_params(handle))
        self.size = int(api.llama_model_size(handle))
        self.trained_context = int(api.llama_model_n_ctx_train(handle))
        self.quantization = FILE_TYPES.get(int(api.llama_model_ftype(handle)) & 1023, "unknown")
        self.adds_bos = bool(api.llama_vocab_get_add_bos(self.vocab))
        self.bos = int(api.llama_vocab_bos(self.vocab))
        self.eos = int(api.llama_vocab_eos(self.vocab))

    def close(self) -> None:
        """Free it; its contexts must be freed before. Safe to call twice."""
        if self.handle:
            self.api.llama_model_free(self.handle)
            self.handle = None

    def metadata(self, key: str) -> str | None:
        """A scalar of the GGUF's metadata as text, or None."""
        call = self.api.llama_model_meta_val_str
        size = call(self.handle, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        call(self.handle, key.encode(), buffer, size + 1)
        return buffer.value.decode("utf-8", "replace")

    def chat_template(self) -> str | None:
        """The GGUF's default chat template, or None."""
        text = self.api.llama_model_chat_template(self.handle, None)
        return text.decode("utf-8", "replace") if text else None

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Tokens of ``text``, with BOS where the model wants one and never two of them.

        ``special``: names of control tokens in the text are parsed as those tokens; else they
        are plain text.
        """
        # A lone surrogate has no UTF-8 form, and llama.cpp throws on invalid UTF-8.
        data = text.encode("utf-8", "replace")
        if len(data) > _MAX_TEXT:
            raise BadRequest("the prompt is longer than 1 GiB")
        room = len(data) // 3 + 8
        while True:
            buffer = (self.api.llama_token * room)()
            count = self.api.llama_tokenize(
                self.vocab, data, len(data), buffer, room, True, special
            )
            if count >= 0:
                break
            if count == -(1 << 31):
                raise BadRequest("the prompt is too long to be tokenized")
            room = -count
        tokens = list(buffer[:count])
        if self.adds_bos and tokens[:2] == [self.bos, self.bos]:
            del tokens[0]  # the text, a chat template's as a rule, brings its own
        if len(tokens) > 1 and tokens[-1] == self.eos and self._adds_eos():
            del tokens[-1]  # nothing would be generated after it
        return tokens

    def _adds_eos(self) -> bool:
        return bool(self.api.llama_vocab_get_add_eos(self.vocab))

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token, which may be a part of a character.

        Control tokens have none unless ``special``.
        """
        size = _MAX_PIECE
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self.api.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def token_text(self, token: int) -> str:
        """A token's own spelling, ``<s>`` for example; empty for no token (-1)."""
        return "" if token < 0 else self.piece(token, special=True).decode("utf-8", "replace")

    def ends_generation(self, token: int) -> bool:
        return bool(self.api.llama_vocab_is_eog(self.vocab, token))


def load_model(
    api: Any,
    weights: Weights,
    log: Log,
    progress: Callable[[float], bool],
    *,
    use_mmap: bool = True,
) -> Model:
    """Map or read the weights. ``progress`` gets 0 to 1 and says whether to go on.

    Raises ModelError with llama.cpp's reason.
    """
    params = api.llama_model_default_params()
    if not use_mmap:
        params.load_mode = 0  # LLAMA_LOAD_MODE_NONE; the default maps where the device can
    callback = api.llama_progress_callback(lambda share, _user: progress(float(share)))
    params.progress_callback = callback
    log.clear()
    if weights.split:
        # llama.cpp finds the other parts by the first one's name, so it needs a path.
        handle = api.llama_model_load_from_file(os.fsencode(weights.path), params)
    else:
        with c_file(weights) as pointer:
            handle = api.llama_model_load_from_file_ptr(pointer, params)
    if not handle:
        raise ModelError(_why(weights, log))
    model = Model(api, handle)
    try:
        _check_kind(model)
    except ModelError:
        model.close()
        raise
    return model


def _why(weights: Weights, log: Log) -> str:
    reason = log.explain() or "llama.cpp gave no reason; --verbose shows what it says"
    return f"the model in {weights.path.name} cannot be loaded: {reason}"


def _check_kind(model: Model) -> None:
    api, handle = model.api, model.handle
    if api.llama_model_has_encoder(handle) or not api.llama_model_has_decoder(handle):
        raise ModelError("this model does not generate text token by token (it has an encoder)")
    if api.llama_model_is_diffusion(handle):
        raise ModelError("diffusion language models are not supported")
