"""A model's context: the tokens that it has read, and the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import NativeError
from .host import available_memory
from .log import Log
from .model import Model

DEFAULT_CONTEXT = 8192
_LEAST_CONTEXT = 2048
_BATCH = 2048
_UBATCH = 512
_ABORTED = 2  # llama_decode's answer


class Context:
    """One sequence of tokens. Not thread-safe.

    ``tokens`` are those which lie in the context's memory; ``size`` is how many fit.
    """

    def __init__(self, model: Model, log: Log, *, size: int, threads: int) -> None:
        self._api = api = model.api
        self._log = log
        params = api.llama_context_default_params()
        params.n_ctx = size
        params.n_batch = min(_BATCH, size)
        params.n_ubatch = min(_UBATCH, size)
        params.n_seq_max = 1
        # Only the last token's logits are wanted: room for a whole batch's would be a hundred
        # megabytes, reserved and cleared at each start.
        params.n_outputs_max = 1
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        log.clear()
        self._handle = api.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise NativeError(
                f"a context of {size} tokens cannot be made ({log.explain() or 'no reason given'})"
                "; try a smaller one with -c"
            )
        self._memory = api.llama_get_memory(self._handle)
        self.size = int(api.llama_n_ctx(self._handle))
        self.tokens: list[int] = []
        self._cancelled: Callable[[], bool] = lambda: False
        self._abort = api.ggml_abort_callback(self._is_cancelled)
        self._no_abort = api.ggml_abort_callback()  # NULL

    def close(self) -> None:
        """Free it. Safe to call twice."""
        if self._handle:
            self._api.llama_free(self._handle)
            self._handle = None

    def keep_prefix(self, tokens: Sequence[int]) -> int:
        """Forget all but what ``tokens`` begin with, and give its length.

        At least the last of ``tokens`` is forgotten, since only reading it gives logits.
        """
        common = 0
        for held, wanted in zip(self.tokens, tokens[:-1], strict=False):
            if held != wanted:
                break
            common += 1
        # Recurrent models cannot forget a part.
        if common < len(self.tokens) and not self._api.llama_memory_seq_rm(
            self._memory, 0, common, -1
        ):
            self._api.llama_memory_clear(self._memory, False)
            common = 0
        self.tokens = list(tokens[:common])
        return common

    def read(self, tokens: Sequence[int], cancelled: Callable[[], bool]) -> bool:
        """Append tokens. False when ``cancelled()`` came true; then some may be missing."""
        # The callback costs a few microseconds for each operation of the graph, which a prompt's
        # long operations do not notice but a single token's would.
        long = len(tokens) > 1
        self._cancelled = cancelled
        if long:
            self._api.llama_set_abort_callback(self._handle, self._abort, None)
        try:
            for start in range(0, len(tokens), _BATCH):
                if cancelled() or not self._decode(tokens[start : start + _BATCH]):
                    return False
        finally:
            if long:
                self._api.llama_set_abort_callback(self._handle, self._no_abort, None)
            self._cancelled = lambda: False
        return True

    def _decode(self, tokens: Sequence[int]) -> bool:
        array = (self._api.llama_token * len(tokens))(*tokens)
        batch = self._api.llama_batch_get_one(array, len(tokens))
        self._log.clear()
        result = self._api.llama_decode(self._handle, batch)
        if result == 0:
            self.tokens.extend(tokens)
            return True
        # What was read before it failed stays in memory: begin anew rather than guess how much.
        self._api.llama_memory_clear(self._memory, False)
        self.tokens = []
        if result == _ABORTED:
            return False
        raise NativeError(f"llama.cpp failed while computing ({result}): {self._log.explain()}")

    def _is_cancelled(self, _user: object) -> bool:
        return self._cancelled()

    def sample(self, sampler: Any) -> int:
        """The next token by a sampler chain's choice, which the chain is told of."""
        return int(self._api.llama_sampler_sample(sampler, self._handle, -1))


def choose_context(model: Model, wanted: int | None) -> int:
    """The context's size in tokens: ``wanted``, 0 for the model's own, None for a sensible one.

    Sensible is at most 8192, and at most what half of the free memory holds.
    """
    if wanted:
        return wanted
    trained = model.trained_context or DEFAULT_CONTEXT
    if wanted == 0:
        return trained
    size = min(trained, DEFAULT_CONTEXT)
    memory = available_memory()
    bytes_per_token = _bytes_per_token(model)
    while memory and size > _LEAST_CONTEXT and size * bytes_per_token > memory // 2:
        size //= 2
    return size


def _bytes_per_token(model: Model) -> int:
    """The key-value cache's share of one token in 16-bit floats; too high for some models."""
    api, handle = model.api, model.handle
    heads = max(1, int(api.llama_model_n_head(handle)))
    kv_heads = int(api.llama_model_n_head_kv(handle)) or heads
    width = int(api.llama_model_n_embd(handle)) // heads * kv_heads
    return int(api.llama_model_n_layer(handle)) * width * 2 * 2
