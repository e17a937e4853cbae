"""Packing: short examples share rows, so that little is padding.

They are those of the user's own tasks, and those of objectives that cut every document on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from t5x_style.data import converters, map_options, skip_counts

# How many examples are packed together. The last rows of a group are not full; more examples make
# them a smaller share, but take longer to collect and more memory.
_GROUP = 2048
# Rows depend on it and on the lengths; part of the identity of a run.
DESCRIPTION = f"best fit decreasing, {_GROUP} examples"
# Optional features with a value for each target token.
ALIGNED = {"loss_weights": tf.float32, "component_ids": tf.int32, "causal_attention": tf.int32}


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

  `best_fit` chooses the row of an example; within a row examples keep their order. Features with a
  value for each target (weights, component ids, attention to a prefix) move with the targets.
  Examples that are too long are cut, and zeros at their ends are padding.

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
  names = [name for name in ("inputs", "targets") if name in lengths]
  present = [name for name in ALIGNED if name in examples.element_spec]

  def cut(example):
    kept = {name: _tokens(example[name][: lengths[name]]) for name in names}
    size = tf.size(kept["targets"])
    for name in present:
      kept[name] = tf.cast(example[name][:size], ALIGNED[name])
      tf.debugging.assert_equal(tf.size(kept[name]), size, f"{name} are fewer than targets.")
    return kept | _beside_the_model(example)

  examples = examples.map(cut, **map_options.IN_ORDER)
  if architecture == "decoder_only" and "inputs" in names:
    names, lengths = ["targets"], {"targets": sum(lengths[name] for name in names)}
    examples = examples.map(converters.join_example, **map_options.IN_ORDER)
  beside = sorted(set(examples.element_spec) & set(ALIGNED))
  widths = {name: lengths[name] for name in names}
  # One group at a time: groups that were prepared ahead would be part of a saved position.
  groups = examples.ragged_batch(_GROUP)
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
    lambda needs: _layout(needs, room), [needs], (tf.int64, tf.int32, tf.int64), stateful=False
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
    text = _tokens(example["raw"])
    kept["raw"] = tf.pad(text, [[0, 1]])
    if "raw_hidden" in example:
      hidden = tf.cast(example["raw_hidden"][: tf.size(text)], tf.int32)
      kept["raw_hidden"] = tf.pad(hidden, [[0, 1]])
  if skip_counts.KEY in example:
    kept[skip_counts.KEY] = example[skip_counts.KEY]
  return kept


def _tokens(feature: tf.Tensor) -> tf.Tensor:
  """Integers [n] -> int32, without the zeros at the end."""
  places = tf.where(feature != 0)[:, 0]
  return tf.cast(feature[: tf.reduce_max(tf.concat([[-1], places], axis=0)) + 1], tf.int32)


def best_fit(needs: np.ndarray, room: np.ndarray) -> np.ndarray:
  """Returns the row of each example: the fullest one that has room, for the largest example first.

  This is best fit decreasing (Garey and Johnson, Computers and Intractability, section 6.1) for two
  sides: an example needs room for its inputs and its targets, and its size is the larger of its
  shares of them. Rows are numbered in the order of their largest examples in the stream, so that
  full rows and less full ones are mixed.

      needs [[3 2] [6 3] [2 3]]   room [6 6]   returns [0 1 0]

  Args:
    needs: int64 [n, sides], tokens of each example, at most `room`.
    room: int [sides], tokens of an empty row.

  Returns:
    int64 [n], rows from 0.
  """
  shares = needs / room
  order = np.argsort(-shares.max(axis=1), kind="stable")
  sizes = shares.sum(axis=1)
  least = needs.min(axis=0)
  # For each open row: the room left on each side, the sum of its shares, and its number.
  left = np.zeros((len(room), 64), np.int64)
  total, number, opened = np.zeros(64), np.zeros(64, np.int64), 0
  chosen = np.zeros(len(needs), np.int64)
  largest: list[int] = []  # for each row, its largest example
  for example, need in zip(order.tolist(), needs[order].tolist(), strict=True):
    fits = np.logical_and.reduce([left[side, :opened] >= n for side, n in enumerate(need)])
    best = int(np.where(fits, total[:opened], np.inf).argmin()) if opened else 0
    if not opened or not fits[best]:
      if opened == total.size:
        # Rows without room for the smallest example are closed.
        useful = np.flatnonzero((left >= least[:, None]).all(axis=0))
        spare = max(total.size, 2 * useful.size) - useful.size
        left = np.pad(left[:, useful], [(0, 0), (0, spare)])
        total, number = np.pad(total[useful], (0, spare)), np.pad(number[useful], (0, spare))
        opened = useful.size
      best, opened = opened, opened + 1
      left[:, best], total[best], number[best] = room, len(room), len(largest)
      largest.append(example)
    for side, n in enumerate(need):
      left[side, best] -= n
    total[best] -= sizes[example]
    chosen[example] = number[best]
  return np.argsort(np.argsort(largest))[chosen]


def _layout(needs: np.ndarray, room: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """For each example: its row, its number there (from 1) and where it starts, [n, columns].

  The first columns of `needs` are the sides that have `room`; others only move with them.
  """
  row = best_fit(needs[:, : len(room)], room)
  order = np.argsort(row, kind="stable")
  first = np.searchsorted(row[order], row[order])  # where the row of each begins in the order
  number, starts = np.zeros(len(row), np.int32), np.zeros_like(needs)
  before = np.cumsum(needs[order], axis=0) - needs[order]
  number[order] = np.arange(len(row)) - first + 1
  starts[order] = before - before[first]
  return row, number, starts
