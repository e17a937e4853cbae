"""Texts as vectors: the states of the last block, pooled over the tokens of each row."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.inference.row_batches import longest_row, row_batches
from t5x_style.models import Transformer

Pooling = Literal["mean", "first", "last"]
POOLINGS: tuple[Pooling, ...] = ("mean", "first", "last")


def embed(
  model: Transformer,
  params: Any,
  rows: Sequence[Sequence[int]],
  pooling: Pooling,
  *,
  batch_size: int = 16,
) -> np.ndarray:
  """Returns one vector per row, float32 [N, D]: states after the last norm, before the head.

  They are the decoder's in a decoder-only model, otherwise the encoder's.

  Args:
    rows: token ids with all special tokens; at least one each.
    pooling: "mean" over all tokens of a row, or the "first" or "last" of them.
    batch_size: rows of a batch.
  """
  config = model.config
  vectors = np.zeros((len(rows), config.emb_dim), np.float32)
  for batch in row_batches(
    rows, batch_size=batch_size, pad_id=max(config.padding_id, 0), longest=longest_row(model)
  ):
    pooled = jax.device_get(_pooled(model, params, batch.tokens, batch.segments, pooling))
    vectors[batch.indices] = pooled[: len(batch.indices)]
  return vectors


@functools.partial(jax.jit, static_argnames=("model", "pooling"))
def _pooled(model, params, tokens, segments, pooling):
  side = "decoder" if model.config.architecture == "decoder_only" else "encoder"
  batch = {f"{side}_input_tokens": tokens, f"{side}_segment_ids": segments}
  states = model.apply({"params": params}, batch, method=Transformer.hidden_states)
  states = states.astype(jnp.float32)
  if pooling == "first":
    return states[:, 0]
  count = segments.sum(1)
  if pooling == "last":
    last = jnp.maximum(count - 1, 0)
    return jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]
  weights = segments / jnp.maximum(count, 1)[:, None]
  return jnp.einsum("bld,bl->bd", states, weights)
