"""Log-probabilities of given tokens, on ids: one forward pass, never all logits at once.

Rows of any lengths are padded to a few lengths, and each of these is compiled once. What a row
means, such as which tokens are masked, is decided where it is made, by t5x_style.trained.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import PartitionSpec

from t5x_style.architectures import predicted_side
from t5x_style.inference.row_batches import bucket_length, longest_row, power_of_two
from t5x_style.losses import linear_cross_entropy
from t5x_style.models import Transformer
from t5x_style.partitioning import active_mesh

_SORTED_ROWS = 16384  # are batched by their lengths at a time

Ids = Sequence[int]


class Row(NamedTuple):
  """What a model reads, and the tokens whose probabilities are wanted.

  Attributes:
    targets: the ids to score, [P], at least one.
    positions: where on the predicting side each of them is predicted, [P]. A decoder predicts the
      id after the one that it reads there, an encoder the id that belongs there.
    decoder_inputs: ids that the decoder reads, its start token included; empty for encoder-only.
    encoder_inputs: ids that the encoder reads; empty for decoder-only.
    prefix: how many decoder inputs are read in both directions (a prefix LM without an encoder).
  """

  targets: Ids
  positions: Ids
  decoder_inputs: Ids = ()
  encoder_inputs: Ids = ()
  prefix: int = 0


class TokenScores(NamedTuple):
  """The scores of a row's targets, [P] each."""

  log_probabilities: np.ndarray  # float32, natural logarithms
  likeliest: np.ndarray  # bool, whether no other id has a larger logit


def score_rows(
  model: Transformer, params: Any, rows: Iterable[Row], *, batch_tokens: int = 8192
) -> Iterator[TokenScores]:
  """Yields the scores of each row's targets, in the order of the rows.

  Run it inside `Partitioner.context()`; the rows of a batch are then split over the mesh as in
  training. All processes of a job have to give the same rows.

  Args:
    params: of the model, as `Transformer.init` returns them.
    batch_tokens: about how many tokens, padding included, are computed at once.
  """
  source = iter(rows)
  while chunk := list(itertools.islice(source, _SORTED_ROWS)):
    yield from _score_chunk(model, params, chunk, batch_tokens)


def _score_chunk(model, params, rows, batch_tokens):
  """Returns the TokenScores of a list of rows, batched by their padded lengths."""
  by_shape: dict[_Shape, list[int]] = {}
  for index, row in enumerate(rows):
    by_shape.setdefault(_padded_shape(model, row), []).append(index)
  scores: list[TokenScores | None] = [None] * len(rows)
  for shape, members in by_shape.items():
    size = _rows_of_batch(shape, len(members), batch_tokens)
    for start in range(0, len(members), size):
      batch = members[start : start + size]
      arrays = _arrays(model.config, [rows[i] for i in batch], shape, size)
      found = jax.device_get(_score_batch(model, params, *arrays))
      for place, index in enumerate(batch):
        wanted = len(rows[index].targets)
        scores[index] = TokenScores(*(x[place, :wanted] for x in found))
  return scores


class _Shape(NamedTuple):
  """The lengths of padded rows, in tokens."""

  encoder: int
  decoder: int
  targets: int


def _padded_shape(model: Transformer, row: Row) -> _Shape:
  encoder, decoder = (
    bucket_length(len(ids), longest_row(model)) if ids else 0
    for ids in (row.encoder_inputs, row.decoder_inputs)
  )
  predicted = encoder if predicted_side(model.config.architecture) == "encoder" else decoder
  return _Shape(encoder, decoder, min(power_of_two(len(row.targets)), predicted))


def _rows_of_batch(shape: _Shape, rows: int, batch_tokens: int) -> int:
  """Returns how many rows a batch has: a power of two for each device that holds rows."""
  (devices,) = active_mesh.num_shards(("batch",))
  room = max(1, batch_tokens // (devices * (shape.encoder + shape.decoder)))
  wanted = -(-rows // devices)
  return devices * min(power_of_two(room + 1) // 2, power_of_two(wanted))


def _arrays(config, rows, shape, size):
  """Returns (features of the batch, positions, targets, weights) of rows, padded."""
  pad_id = max(config.padding_id, 0)  # Segment ids hide it, whatever it is.

  def padded(lists, length, fill=0, dtype=np.int32):
    array = np.full((size, length), fill, dtype)
    for place, values in enumerate(lists):
      array[place, : len(values)] = values
    return array

  batch = {}
  for side, length in (("encoder", shape.encoder), ("decoder", shape.decoder)):
    if length:
      tokens = [getattr(row, f"{side}_inputs") for row in rows]
      batch[f"{side}_input_tokens"] = padded(tokens, length, pad_id)
      if shape.encoder:  # A decoder alone sees no padding: it comes after all tokens.
        segments = padded([np.ones(len(ids)) for ids in tokens], length)
        segments[len(rows) :, 0] = 1  # A row without any token to see would give NaN.
        batch[f"{side}_segment_ids"] = segments
  if any(row.prefix for row in rows):
    batch["decoder_causal_attention"] = padded([np.ones(row.prefix) for row in rows], shape.decoder)
  return (
    batch,
    padded([row.positions for row in rows], shape.targets),
    padded([row.targets for row in rows], shape.targets),
    padded([np.ones(len(row.targets)) for row in rows], shape.targets, dtype=np.float32),
  )


@functools.partial(jax.jit, static_argnames="model")
def _score_batch(model, params, batch, positions, targets, weights):
  """Returns (log-probabilities float32, likeliest bool), [B, P] each, on all devices."""
  out = model.apply({"params": params}, batch, positions)
  tokens = linear_cross_entropy(
    out.hidden,
    out.kernel,
    targets,
    weights,
    bias=out.bias,
    logit_soft_cap=model.config.logit_soft_cap,
    return_per_token=True,
  ).per_token
  assert tokens is not None
  scores = -tokens.loss, tokens.correct > 0
  if jax.sharding.get_abstract_mesh().empty:
    return scores
  return jax.lax.with_sharding_constraint(scores, PartitionSpec())
