"""cuDNN's flash attention for NVIDIA GPUs, which holds no logits.

It has causal masks, windows to the left and rows that end in padding. All other patterns (documents
of packed rows, prefixes, windows to both sides) are given to it as a mask [B, 1, L, S]. JAX turns
the mask into a bias in the dtype of the queries; hidden keys get a weight of exactly zero.

T5's bias is [1, N, L, S]. Together with such a mask it would become [B, N, L, S], and some releases
of cuDNN silently return zero gradients for biases that differ between rows: XLA computes this case.
"""

import jax
import jax.numpy as jnp

from t5x_style.models.attention_kernels.gpu_support import gpu_error
from t5x_style.models.attention_kernels.head_sharding import repeat_key_heads
from t5x_style.models.attention_kernels.pattern import AttentionInputs, AttentionSpec, Pattern
from t5x_style.partitioning.active_mesh import current_capability, on_each_device

PLATFORM, TITLE = "gpu", "cuDNN"
PATTERN_FIELDS = frozenset({"query_segments", "key_segments", "prefix", "causal", "window"})

_HEADS = ("batch", None, "heads", "kv")  # of queries, keys and values


def reason_against(spec: AttentionSpec) -> str | None:
  """Returns why cuDNN cannot compute this, or None if it can."""
  error = gpu_error(TITLE, spec)
  if error:
    return error
  H, capability = spec.queries[3], current_capability()  # None: not known.
  widest = 256 if capability is None or capability >= (9, 0) else 128
  if H % 8 or H > widest:
    return f"cuDNN takes heads of a multiple of 8 up to {widest}, not {H}"
  if spec.soft_cap is not None:
    return "cuDNN has no soft cap"
  masked = _needs_mask(spec.pattern, spec.queries[1] == spec.keys[1])
  if spec.bias and (masked or spec.pattern.window is not None):
    return "cuDNN takes no bias together with packed rows, prefixes or windows"
  if (spec.bias or masked) and (spec.queries[1] % 2 or spec.keys[1] % 2):
    lengths = f"{spec.queries[1]} and {spec.keys[1]}"
    return f"cuDNN takes a bias or a mask for even lengths only, not {lengths}"
  return None


def make_mask(pattern: Pattern, query_length: int, key_length: int) -> jax.Array | None:
  """Returns a boolean mask [B or 1, 1, L, S] if cuDNN does not have the pattern itself, or None."""
  mask = pattern.mask(query_length, key_length)
  if mask is None or not _needs_mask(pattern, query_length == key_length):
    return None
  return jnp.broadcast_to(mask, (*mask.shape[:2], query_length, key_length))


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  inputs: AttentionInputs,
  scale: float,
  soft_cap: float | None,
) -> jax.Array:
  """Computes attention as `attention.attend` does."""
  assert soft_cap is None  # See reason_against.
  pattern, mask, bias = inputs.pattern, inputs.mask, inputs.bias
  lengths = None
  if mask is None and pattern.key_segments is not None:
    # Rows without any key would give NaN: they see one key, and the caller sets them to zero.
    lengths = jnp.maximum((pattern.key_segments != 0).sum(-1, dtype=jnp.int32), 1)
  causal = pattern.causal and pattern.prefix is None
  window = None if mask is not None or pattern.window is None else (pattern.window, 0)

  def on_device(query, key, value, bias, mask, lengths):
    return jax.nn.dot_product_attention(
      query,
      key,
      value,
      bias,
      mask,
      scale=scale,
      is_causal=causal,
      key_value_seq_lengths=lengths,
      local_window_size=window,
      implementation="cudnn",
    )

  names = (
    *(_HEADS,) * 3,
    None if bias is None else (None, "heads", None, None),
    None if mask is None else ("batch" if mask.shape[0] > 1 else None, None, None, None),
    None if lengths is None else ("batch",),
  )
  key, value = (repeat_key_heads(x, query.shape[2]) for x in (key, value))
  bias = None if bias is None else bias.astype(query.dtype)
  return on_each_device(on_device, names, _HEADS)(query, key, value, bias, mask, lengths)


def _needs_mask(pattern: Pattern, square: bool) -> bool:
  """Returns whether the pattern needs a mask because cuDNN does not have it itself."""
  return (
    pattern.query_segments is not None
    or pattern.prefix is not None
    or (pattern.window is not None and not pattern.causal)
    or (pattern.causal and not square)
  )
