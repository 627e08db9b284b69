"""How much memory a model needs: an estimate from its header, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

_KV_BYTES = 2  # the KV cache is f16 unless the user asks otherwise
_COMPUTE_RATIO = 0.05
_COMPUTE_FLOOR = 64 << 20


@dataclass(frozen=True)
class ModelShape:
    """What the KV cache depends on, from the metadata of the model's architecture.

    ``kv_heads`` may be fewer than the attention heads (grouped-query attention);
    ``key_length`` and ``value_length`` are per head.
    """

    layers: int
    kv_heads: int
    key_length: int
    value_length: int


@dataclass(frozen=True)
class MemoryEstimate:
    """All in bytes. The weights are mapped, so they share memory with the page cache."""

    weights: int
    kv_cache: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.compute


def estimate_memory(weights: int, shape: ModelShape, context: int) -> MemoryEstimate:
    """Memory for ``context`` tokens.

    KV cache: one key and one value vector for each layer and token. Compute buffers: a rule of
    thumb, 5 % of the weights and at least 64 MiB.
    """
    per_token = shape.layers * shape.kv_heads * (shape.key_length + shape.value_length) * _KV_BYTES
    compute = max(_COMPUTE_FLOOR, int(weights * _COMPUTE_RATIO))
    return MemoryEstimate(weights, per_token * context, compute)
