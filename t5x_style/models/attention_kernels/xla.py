"""Attention in plain operations that XLA compiles for every device: it can do all that is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
  from t5x_style.models.attention import Pattern
  from t5x_style.models.attention_kernels.choice import Case

# Far below any real logit, yet finite: a row with every key hidden averages instead of giving NaN.
HIDDEN = -1e10


def supports(case: Case) -> str | None:
  """Nothing is against it."""
  del case
  return None


def make_mask(pattern: Pattern, query_length: int, key_length: int) -> jax.Array | None:
  """The whole pattern, drawn: boolean [B or 1, 1, L or 1, S]."""
  return pattern.mask(query_length, key_length)


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  pattern: Pattern,
  mask: jax.Array | None,
  bias: jax.Array | None,
  scale: float,
  soft_cap: float | None,
) -> jax.Array:
  """As `attention.attend`; the logits [B, N, L, S] are held in float32.

  The bias stays [1, N, L, S]: XLA adds it to each row of the batch as it writes the logits.
  """
  del pattern
  B, L, N, H = query.shape
  S, K = key.shape[1:3]
  query = (query * scale).reshape(B, L, K, N // K, H)
  logits = jnp.einsum("blkgh,bskh->bkgls", query, key, preferred_element_type=jnp.float32)
  logits = logits.reshape(B, N, L, S)
  if soft_cap is not None:
    logits = soft_cap * jnp.tanh(logits / soft_cap)
  if bias is not None:
    logits += bias.astype(jnp.float32)
  if mask is not None:
    logits = jnp.where(mask, logits, HIDDEN)
  weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype).reshape(B, K, N // K, L, S)
  return jnp.einsum("bkgls,bskh->blkgh", weights, value).reshape(B, L, N, H)
