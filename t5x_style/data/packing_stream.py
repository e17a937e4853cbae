"""Packs the short examples of a stream into rows; packing.py says which example goes where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from t5x_style.data import map_options, packing, skip_counts
from t5x_style.data.tensorflow_setup import tf


@map_options.as_written
def pack(
  examples: tf.data.Dataset, architecture: str, lengths: Mapping[str, int]
) -> tf.data.Dataset:
  """Packs short {"inputs", "targets"} examples of SeqIO tasks into rows.

      inputs  [7 8 1]   targets [5 1]
      inputs  [9 1]     targets [6 4 1]
  become, for lengths of 6, the row
      inputs               [7 8 1 9 1 0]    targets              [5 1 6 4 1 0]
      inputs_segment_ids   [1 1 1 2 2 0]    targets_segment_ids  [1 1 2 2 2 0]

  `packing.best_fit` chooses the row of an example; within a row examples keep their order.
  Features with a value for each target (weights, component ids, attention to a prefix) move with
  the targets. Examples that are too long are cut, and zeros at their ends are padding.

  For a preview, rows hold the windows of their examples ("raw", "raw_hidden"), one after the other
  with a zero after each; a row has the newest counts of its examples (skip_counts).

  Args:
    examples: {"inputs": integers [n], "targets": integers [m]} and optionally "loss_weights" [m],
      "causal_attention" [m], the raw window and the counts.
    architecture: "encoder_decoder" or "decoder_only"; the latter gets the inputs as a prefix of the
      targets.
    lengths: {task feature: tokens} of a row.

  Returns:
    rows of static lengths, with "<feature>_segment_ids" (from 1, 0 is padding).
  """
  widths = packing.widths(lengths, architecture)
  joined = len(widths) < sum(name in lengths for name in ("inputs", "targets"))

  def fit(example):
    kept = packing.fitted(example, lengths, architecture)
    size = tf.size(kept["targets"])
    for name in set(kept) & set(packing.ALIGNED):
      tf.debugging.assert_equal(tf.size(kept[name]), size, f"{name} are fewer than targets.")
    return kept if joined else kept | _beside_the_model(example)

  examples = examples.map(fit, **map_options.IN_ORDER)
  beside = sorted(set(examples.element_spec) & set(packing.ALIGNED))
  # One group at a time: groups that were prepared ahead would be part of a saved position.
  groups = examples.ragged_batch(packing.GROUP)
  return groups.map(lambda group: _rows_of(group, widths, beside)).unbatch()


def _rows_of(
  group: Mapping[str, tf.RaggedTensor], widths: Mapping[str, int], beside: Sequence[str]
) -> dict[str, tf.Tensor]:
  """Packs a group of examples into rows.

  Args:
    group: {feature: ragged [examples, (n)]}.
    widths: {"inputs" or "targets": tokens of a row}.
    beside: features that move with the targets.
  """
  room = np.array(list(widths.values()))
  if "raw" in group:  # There are not more raw tokens than tokens on both sides.
    widths = {**widths, "raw": int(room.sum())}
  needs = tf.stack([group[name].row_lengths() for name in widths], axis=1)
  row, segment, starts = tf.numpy_function(
    lambda needs: packing.layout(needs, room),
    [needs],
    (tf.int64, tf.int32, tf.int64),
    stateful=False,
  )
  count = tf.reduce_max(row) + 1
  packed = {}
  for index, (name, width) in enumerate(widths.items()):
    sizes = needs[:, index]
    # The place of each token when all rows are one: that of its example plus its own within it.
    first = row * width + starts[:, index] - tf.cumsum(sizes, exclusive=True)
    place = tf.repeat(first, sizes) + tf.range(tf.reduce_sum(sizes))
    values = {name: group[name].flat_values}
    if name == "raw":
      values |= {other: group[other].flat_values for other in ("raw_hidden",) if other in group}
    else:
      values[f"{name}_segment_ids"] = tf.repeat(segment, sizes)
    if name == "targets":
      values |= {other: group[other].flat_values for other in beside}
    for key, flat in values.items():
      full = tf.scatter_nd(place[:, None], flat, [count * width])
      packed[key] = tf.reshape(full, [count, width])
  if "raw_hidden" in packed:
    packed["raw_hidden"] = packed["raw_hidden"] > 0
  if skip_counts.KEY in group:
    packed[skip_counts.KEY] = tf.math.unsorted_segment_max(group[skip_counts.KEY], row, count)
  return packed


def _beside_the_model(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """Returns the counts and the raw window of an example, with a zero after it, if it has them."""
  kept = {}
  if "raw" in example:
    text = packing.without_padding(example["raw"])
    kept["raw"] = tf.pad(text, [[0, 1]])
    if "raw_hidden" in example:
      hidden = tf.cast(example["raw_hidden"][: tf.size(text)], tf.int32)
      kept["raw_hidden"] = tf.pad(hidden, [[0, 1]])
  if skip_counts.KEY in example:
    kept[skip_counts.KEY] = example[skip_counts.KEY]
  return kept
