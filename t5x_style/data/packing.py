"""Packing: short examples share rows, so that little is padding.

They are those of the user's own tasks, and those of objectives that cut every document on its own.
packing_stream.py packs examples of the stream of SeqIO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from t5x_style.data import arrays, converters
from t5x_style.data.arrays import Array, Features

# How many examples are packed together. The last rows of a group are not full; more examples make
# them a smaller share, but take longer to collect and more memory.
GROUP = 2048
# Rows depend on it and on the lengths; part of the identity of a run.
DESCRIPTION = f"best fit decreasing, {GROUP} examples"
# Optional features with a value for each target token.
ALIGNED = {"loss_weights": np.float32, "component_ids": np.int32, "causal_attention": np.int32}


def widths(lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
  """Returns the tokens of each side of a row; a decoder-only model has "targets" only."""
  if architecture == "decoder_only":
    return {"targets": lengths.get("inputs", 0) + lengths["targets"]}
  return {name: lengths[name] for name in ("inputs", "targets") if name in lengths}


def fitted(example: Features, lengths: Mapping[str, int], architecture: str) -> Features:
  """Returns an example as rows hold it: cut to `lengths`, and without the zeros at its ends.

  Decoder-only models get the inputs as a prefix of the targets. NumPy arrays and tensors give the
  same result.

  Args:
    example: {"inputs": integers [n], "targets": integers [m]} and any features ALIGNED [m]; others
      are left out.
    lengths: {task feature: tokens}.
  """
  names = [name for name in ("inputs", "targets") if name in lengths]
  kept = {name: without_padding(example[name][: lengths[name]]) for name in names}
  xp = arrays.of(kept["targets"])
  size = xp.size(kept["targets"])
  kept |= {k: xp.cast(example[k][:size], dtype) for k, dtype in ALIGNED.items() if k in example}
  if architecture == "decoder_only" and "inputs" in names:
    return converters.join_example(kept)
  return kept


def without_padding(feature: Array) -> Array:
  """Integers [n] -> int32, without the zeros at the end."""
  xp = arrays.of(feature)
  last = xp.max(xp.pad(xp.indices(feature != 0), 1, 0, -1))
  return xp.cast(feature[: last + 1], np.int32)


def row_of(examples: Sequence[Features], widths: Mapping[str, int]) -> Features:
  """Returns a row of examples, one after the other; see packing_stream.pack.

  Args:
    examples: as `fitted` returns them, NumPy arrays; together they fit into the row.
    widths: {"inputs" or "targets": tokens of the row}.

  Returns:
    {feature: [width]}, with "<feature>_segment_ids" (from 1, 0 is padding).
  """
  row = {}
  for name, width in widths.items():
    sizes = [len(example[name]) for example in examples]
    number = np.repeat(np.arange(1, len(examples) + 1, dtype=np.int32), sizes)
    aligned = [key for key in ALIGNED if key in examples[0]] if name == "targets" else []
    flat = {key: np.concatenate([e[key] for e in examples]) for key in (name, *aligned)}
    for key, values in {**flat, f"{name}_segment_ids": number}.items():
      row[key] = np.pad(values, (0, width - len(values)))
  return row


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


def layout(needs: np.ndarray, room: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
