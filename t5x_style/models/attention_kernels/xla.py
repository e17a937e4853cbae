"""Attention in plain operations that XLA compiles for every device: the kernel for every case."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from t5x_style.models import ops
from t5x_style.models.attention_kernels.pattern import (
  AttentionInputs,
  AttentionSpec,
  Pattern,
  WeightDropout,
)
from t5x_style.soft_cap import soft_capped

# Far below any real logit but finite: queries that see no key average all values instead of NaN.
HIDDEN = -1e10

PLATFORM, TITLE = None, "XLA"
PATTERN_FIELDS = frozenset(x.name for x in dataclasses.fields(Pattern))  # It applies Pattern.mask.


def reason_against(spec: AttentionSpec) -> str | None:
  """Returns None: XLA can compute every attention."""
  del spec
  return None


def make_mask(pattern: Pattern, query_length: int, key_length: int) -> jax.Array | None:
  """Returns the mask of the whole pattern: boolean [B or 1, 1, L or 1, S], or None."""
  return pattern.mask(query_length, key_length)


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  inputs: AttentionInputs,
  scale: float,
  soft_cap: float | None,
) -> jax.Array:
  """Computes attention as `attention.attend` does, holding the logits [B, N, L, S] in float32.

  The bias stays [1, N, L, S]: XLA adds it to each row of the batch while it writes the logits.
  """
  mask, bias = inputs.mask, inputs.bias
  B, L, N, H = query.shape
  S, K = key.shape[1:3]
  # Heads come before lengths, so that there is one plain product for each row and head. There is no
  # dimension of size 1, which would cost copies on CPUs.
  groups = (N // K,) if N > K else ()
  rows = "gl" if groups else "l"
  query = (query * scale).astype(query.dtype).swapaxes(1, 2).reshape(B, K, *groups, L, H)
  key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
  logits = jnp.einsum(f"bk{rows}h,bksh->bk{rows}s", query, key, preferred_element_type=jnp.float32)
  if soft_cap is not None:
    logits = soft_capped(logits, soft_cap)
  if bias is not None:
    logits = ops.add_to_rows(logits, bias.astype(jnp.float32).reshape(1, K, *groups, L, S))
  if mask is not None:
    logits = jnp.where(mask[:, :, None] if groups else mask, logits, HIDDEN)
  rate, stays = 0.0, None
  if inputs.dropout is not None:
    rate, stays = inputs.dropout.rate, _draw(inputs.dropout, logits.shape)
  return _average(rows, rate, logits, value, stays).reshape(B, N, L, H).swapaxes(1, 2)


def _draw(dropout: WeightDropout, shape: tuple[int, ...]) -> jax.Array:
  """Draws which weights [B, K, (G,) L, S] dropout keeps; L is 1 if all queries share a mask."""
  if dropout.shared_by_queries:
    shape = (*shape[:-2], 1, shape[-1])
  return jax.random.bernoulli(dropout.key, 1 - dropout.rate, shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _average(rows, rate, logits, value, stays):
  """Returns softmax(logits) value: [B, K, (G,) L, S] and [B, K, S, H] -> [B, K, (G,) L, H].

  For its own gradient it keeps a single array of the logits' size, the weights in the dtype of the
  values. The sum over keys in the softmax's gradient becomes a sum over H (Dao 2022,
  FlashAttention, appendix B.2), also with dropout: both sums are over what it left.

  Args:
    rate: of dropout.
    stays: which weights dropout keeps, boolean; None: all.
  """
  return _average_forward(rows, rate, logits, value, stays)[0]


def _average_forward(rows, rate, logits, value, stays):
  weights = jnp.exp(logits - logits.max(-1, keepdims=True))
  weights = (weights / weights.sum(-1, keepdims=True)).astype(value.dtype)
  out = jnp.einsum(f"bk{rows}s,bksh->bk{rows}h", _drop(rate, weights, stays), value)
  return out, (weights, value, out, stays)


def _average_backward(rows, rate, kept, by_out):
  weights, value, out, stays = kept
  mean = (by_out.astype(jnp.float32) * out).sum(-1, keepdims=True)
  by_value = jnp.einsum(f"bk{rows}s,bk{rows}h->bksh", _drop(rate, weights, stays), by_out)
  by_weights = jnp.einsum(
    f"bk{rows}h,bksh->bk{rows}s", by_out, value, preferred_element_type=jnp.float32
  )
  return weights * (_drop(rate, by_weights, stays) - mean), by_value, None


def _drop(rate, x, stays):
  return x if stays is None else jnp.where(stays, x / (1 - rate), 0)


_average.defvjp(_average_forward, _average_backward)
