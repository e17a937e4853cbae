"""Packing: short examples of the user's own tasks share rows, with little padding left."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from t5x_style.data import converters, tf_data

# Examples that are packed together. The last rows of a group are not full: with more examples they
# count for less, but must be waited for, and lie in memory.
_GROUP = 2048
# What the rows of a run depend on, beside their lengths; saved with a run's position in the data.
DESCRIPTION = f"best fit decreasing, {_GROUP} examples"
# Features of the length of the targets, kept beside them.
_ALIGNED = {"loss_weights": tf.float32, "component_ids": tf.int32}


@tf_data.as_written
def pack(
  examples: tf.data.Dataset, architecture: str, lengths: Mapping[str, int]
) -> tf.data.Dataset:
  """Packs short {"inputs", "targets"} examples of SeqIO tasks into rows.

      inputs  [7 8 1]   targets [5 1]
      inputs  [9 1]     targets [6 4 1]
  become, for lengths of 6, the row
      inputs               [7 8 1 9 1 0]    targets              [5 1 6 4 1 0]
      inputs_segment_ids   [1 1 1 2 2 0]    targets_segment_ids  [1 1 2 2 2 0]

  Examples stay in order within a row; see `best_fit` for the rows. What goes with the targets
  (weights, component, and the prefix made of inputs) stays beside them. Examples that are too long
  are cut, and zeros at their ends are padding.

  Args:
    examples: "inputs" and "targets", integers [n]; "loss_weights", where there are any, of the
      length of the targets.
    architecture: "encoder_decoder" or "decoder_only"; for the latter inputs are put in front of
      targets first.
    lengths: of the task features, in tokens.

  Returns:
    rows of static lengths, with "<feature>_segment_ids" (from 1, 0 is padding).
  """
  names = [name for name in ("inputs", "targets") if name in lengths]
  present = [name for name in _ALIGNED if name in examples.element_spec]

  def cut(example):
    kept = {name: _tokens(example[name][: lengths[name]]) for name in names}
    size = tf.size(kept["targets"])
    for name in present:
      kept[name] = tf.cast(example[name][:size], _ALIGNED[name])
      tf.debugging.assert_equal(tf.size(kept[name]), size, f"{name} are fewer than targets.")
    return kept

  examples = examples.map(cut, **tf_data.IN_ORDER)
  if architecture == "decoder_only" and "inputs" in names:
    names, lengths = ["targets"], {"targets": sum(lengths[name] for name in names)}
    examples = examples.map(converters.join_example, **tf_data.IN_ORDER)
  beside = sorted(set(examples.element_spec) - set(names))
  room = np.array([lengths[name] for name in names])

  def rows(group):
    needs = tf.stack([group[name].row_lengths() for name in names], axis=1)
    row, segment, starts = tf.numpy_function(
      lambda needs: _layout(needs, room), [needs], (tf.int64, tf.int32, tf.int64), stateful=False
    )
    count = tf.reduce_max(row) + 1
    packed = {}
    for index, name in enumerate(names):
      sizes, width = needs[:, index], lengths[name]
      # Where each token goes in the rows, laid end to end: its example's place and its own in it.
      first = row * width + starts[:, index] - tf.cumsum(sizes, exclusive=True)
      place = tf.repeat(first, sizes) + tf.range(tf.reduce_sum(sizes))
      values = {name: group[name].flat_values}
      values[f"{name}_segment_ids"] = tf.repeat(segment, sizes)
      if name == "targets":
        values |= {other: group[other].flat_values for other in beside}
      for key, flat in values.items():
        full = tf.scatter_nd(place[:, None], flat, [count * width])
        packed[key] = tf.reshape(full, [count, width])
    return packed

  # One group at a time: those that lie ready are part of a saved position.
  return examples.ragged_batch(_GROUP).map(rows).unbatch()


def _tokens(feature: tf.Tensor) -> tf.Tensor:
  """int32, without zeros at the end."""
  places = tf.where(feature != 0)[:, 0]
  return tf.cast(feature[: tf.reduce_max(tf.concat([[-1], places], axis=0)) + 1], tf.int32)


def best_fit(needs: np.ndarray, room: np.ndarray) -> np.ndarray:
  """The row of each example: the fullest one that it fits in, the largest examples first.

  An example takes room on every side, inputs and targets, and is as large as the larger of its
  shares of them (best fit decreasing; Garey and Johnson, Computers and Intractability, section
  6.1, for one side). Rows are numbered in the order in which their largest examples came, so that
  full and less full ones, and those of long and of short examples, are mixed.

      needs [[3 2] [6 3] [2 3]]   room [6 6]   returns [0 1 0]

  Args:
    needs: int64 [n, sides], tokens of each example, at most `room`.
    room: int [sides], of an empty row.

  Returns:
    int64 [n].
  """
  shares = needs / room
  order = np.argsort(-shares.max(axis=1), kind="stable")
  sizes = shares.sum(axis=1)
  least = needs.min(axis=0)
  # Of open rows: room left on each side, the sum of its shares, and which row it is.
  left = np.zeros((len(room), 64), np.int64)
  total, number, opened = np.zeros(64), np.zeros(64, np.int64), 0
  chosen = np.zeros(len(needs), np.int64)
  largest: list[int] = []  # Of each row, its first example.
  for example, need in zip(order.tolist(), needs[order].tolist(), strict=True):
    fits = np.logical_and.reduce([left[side, :opened] >= n for side, n in enumerate(need)])
    best = int(np.where(fits, total[:opened], np.inf).argmin()) if opened else 0
    if not opened or not fits[best]:
      if opened == total.size:
        # Rows that not even the smallest example fits in are closed.
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
  """Of each example its row, its number in it (from 1) and the places it starts at [n, sides]."""
  row = best_fit(needs, room)
  order = np.argsort(row, kind="stable")
  first = np.searchsorted(row[order], row[order])  # Of each, where its row begins in the order.
  number, starts = np.zeros(len(row), np.int32), np.zeros_like(needs)
  before = np.cumsum(needs[order], axis=0) - needs[order]
  number[order] = np.arange(len(row)) - first + 1
  starts[order] = before - before[first]
  return row, number, starts
