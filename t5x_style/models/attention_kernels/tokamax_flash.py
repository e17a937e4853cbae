"""Tokamax's flash attention for NVIDIA GPUs, which has a bias and a mask at once, and no logits.

For packed rows with T5's bias, which cuDNN cannot compute: bias and mask are read block by block,
and nothing of size [B, N, L, S] is kept for the backward pass. There the kernel writes the logits'
gradient once, [B, N, L, S] in the queries' dtype, which is summed over the rows and then freed.

It is used only if ATTENTION = "tokamax" requests it: its speed was not measured. The package
tokamax is optional (pip install 't5x_style[gpu-kernels]') and needs Python 3.12.
"""

import importlib.util

import jax

from t5x_style.models.attention_kernels.gpu_support import gpu_error
from t5x_style.models.attention_kernels.head_sharding import repeat_key_heads
from t5x_style.models.attention_kernels.pattern import AttentionInputs, AttentionSpec, Pattern
from t5x_style.partitioning.active_mesh import current_capability, on_each_device

PLATFORM, TITLE = "gpu", "Tokamax"
PATTERN_FIELDS = frozenset({"query_segments", "key_segments", "prefix", "causal", "window"})

_HEADS = ("batch", None, "heads", "kv")  # of queries, keys and values


def reason_against(spec: AttentionSpec) -> str | None:
  """Returns why Tokamax cannot compute this, or None if it can."""
  if importlib.util.find_spec("tokamax") is None:
    return (
      "the package tokamax is not installed: pip install 't5x_style[gpu-kernels]', with Python "
      "3.12 or newer"
    )
  return gpu_error(TITLE, spec)


def make_mask(pattern: Pattern, query_length: int, key_length: int) -> jax.Array | None:
  """Returns a boolean mask [B or 1, 1, L or 1, S] of all but plain causal attention, or None."""
  return None if _only_causal(pattern) else pattern.mask(query_length, key_length)


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  inputs: AttentionInputs,
  scale: float,
  soft_cap: float | None,
) -> jax.Array:
  """Computes attention as `attention.attend` does."""
  import tokamax

  mask, bias, causal = inputs.mask, inputs.bias, _only_causal(inputs.pattern)
  # Of generation 9.0 and newer, the first is faster; it has no backward pass for older ones.
  newer = (current_capability() or (8, 0)) >= (9, 0)

  def on_device(query, key, value, bias, mask):
    # Without a GPU the program is compiled for one that is elsewhere.
    with tokamax.config.cross_compile(jax.default_backend() != "gpu"):
      return tokamax.dot_product_attention(
        query,
        key,
        value,
        bias,
        mask,
        scale=scale,
        is_causal=causal,
        logits_soft_cap=soft_cap,
        implementation=("mosaic", "triton") if newer else "triton",
      )

  names = (
    *(_HEADS,) * 3,
    None if bias is None else (None, "heads", None, None),
    None if mask is None else ("batch" if mask.shape[0] > 1 else None, None, None, None),
  )
  key, value = (repeat_key_heads(x, query.shape[2]) for x in (key, value))
  bias = None if bias is None else bias.astype(query.dtype)
  return on_each_device(on_device, names, _HEADS)(query, key, value, bias, mask)


def _only_causal(pattern: Pattern) -> bool:
  """Returns whether Tokamax needs no mask, as it has the pattern itself."""
  return pattern.causal and pattern.fields_in_use() == {"causal"}
