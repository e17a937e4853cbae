"""Fills the masks of an encoder's rows: the likeliest tokens of each, with their probabilities."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.inference.row_batches import longest_row, power_of_two, row_batches
from t5x_style.models import Transformer
from t5x_style.models.transformer import Outputs

_AT_ONCE = 64  # positions of a row whose logits are held at once


class MaskCandidates(NamedTuple):
  """The likeliest tokens of one mask, the likeliest first.

  Attributes:
    position: of the mask in its row.
    ids: int32 [K].
    probabilities: float32 [K], of all tokens of the vocabulary.
  """

  position: int
  ids: np.ndarray
  probabilities: np.ndarray


def fill_masks(
  model: Transformer,
  params: Any,
  rows: Sequence[Sequence[int]],
  mask_id: int,
  *,
  candidates: int = 5,
  vocab_size: int | None = None,
  batch_size: int = 16,
) -> list[list[MaskCandidates]]:
  """Returns the candidates of every mask of every row; each mask is filled by itself.

  Args:
    model: encoder-only.
    rows: token ids with all special tokens.
    mask_id: the id of the masks.
    candidates: how many tokens to return for a mask, K.
    vocab_size: only ids below it are candidates; None: all ids of the model are.
    batch_size: rows of a batch.
  """
  config = model.config
  candidates = min(candidates, vocab_size or config.vocab_size)
  found: list[list[MaskCandidates]] = [[] for _ in rows]
  for batch in row_batches(
    rows, batch_size=batch_size, pad_id=max(config.padding_id, 0), longest=longest_row(model)
  ):
    holes = hole_positions(batch.tokens, (batch.tokens == mask_id) & (batch.segments > 0))
    ids, log_probs = jax.device_get(
      _candidates(model, params, *batch[1:], holes.positions, candidates, vocab_size)
    )
    for place, i in enumerate(batch.indices):
      found[i] = [
        MaskCandidates(int(position), ids[place, j], np.exp(log_probs[place, j]))
        for j, position in enumerate(holes.positions[place][holes.real[place]])
      ]
  return found


class Holes(NamedTuple):
  """Positions of holes in a batch: positions int32 [B, P], real bool [B, P], 0 where not real."""

  positions: np.ndarray
  real: np.ndarray


def hole_positions(tokens: np.ndarray, chosen: np.ndarray) -> Holes:
  """Returns where `chosen`, bool [B, L], is true, in P columns, a power of two."""
  counts = chosen.sum(1)
  width = min(power_of_two(int(counts.max(initial=0))), tokens.shape[1])
  real = np.arange(width) < counts[:, None]
  first = np.argsort(~chosen, axis=1, kind="stable")[:, :width]
  return Holes(np.where(real, first, 0).astype(np.int32), real)


@functools.partial(jax.jit, static_argnames=("model", "candidates", "vocab_size"))
def _candidates(model, params, tokens, segments, positions, candidates, vocab_size):
  """Returns the ids and log-probabilities of the likeliest tokens, [B, P, K] each."""
  out = encoder_outputs(model, params, tokens, segments, positions)

  def likeliest(logits):
    log_probs = jax.nn.log_softmax(logits)
    if vocab_size is not None:
      known = jnp.arange(log_probs.shape[-1]) < vocab_size
      log_probs = jnp.where(known, log_probs, -jnp.inf)
    return jax.lax.top_k(log_probs, candidates)[::-1]

  return over_positions(likeliest, model, out)


def encoder_outputs(model, params, tokens, segments, positions) -> Outputs:
  """Returns the outputs of an encoder-only model at `positions`, int32 [B, P]."""
  batch = {"encoder_input_tokens": tokens, "encoder_segment_ids": segments}
  return model.apply({"params": params}, batch, target_positions=positions)


def over_positions(function, model: Transformer, out: Outputs, *more: jax.Array) -> Any:
  """Applies a function to the logits of some positions at a time, as those of all may be large.

  Args:
    function: (logits [B, p, V], a part [B, p, ...] of each of `more`) -> arrays [B, p, ...].
    out: of the positions [B, P].
    more: arrays [B, P, ...].

  Returns:
    arrays [B, P, ...].
  """
  count = out.hidden.shape[1]

  def apply(hidden, *parts):
    return function(out._replace(hidden=hidden).logits(model.config.logit_soft_cap), *parts)

  if count <= _AT_ONCE or count % _AT_ONCE:
    return apply(out.hidden, *more)

  def split(x):
    return jnp.moveaxis(x.reshape(x.shape[0], -1, _AT_ONCE, *x.shape[2:]), 1, 0)

  def joined(x):
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], count, *x.shape[3:])

  parts = jax.lax.map(lambda x: apply(*x), jax.tree.map(split, (out.hidden, *more)))
  return jax.tree.map(joined, parts)
