"""Puts examples into rows: one in each, or several with segment ids."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from t5x_style.data import converters, packing
from t5x_style.data.arrays import Features

# Features of an example with the length of its text.
_OF_TEXT = ("raw", "raw_hidden")


def padded(examples: Features, lengths: Mapping[str, int]) -> Features:
  """Pads the features of examples that are shorter than rows, [n, ...] -> [n, length]."""
  rows = {}
  for name, value in examples.items():
    if name in _OF_TEXT or value.ndim < 2:
      rows[name] = value
      continue
    side = "inputs" if name.startswith("inputs") or name == "token_types" else "targets"
    rows[name] = np.pad(value, [(0, 0), (0, lengths[side] - value.shape[1])])
  return rows


def shared(
  examples: Features, row: np.ndarray, rows: int, architecture: str, lengths: Mapping[str, int]
) -> Features:
  """Puts several examples into each row, as t5x_style.data.packing.pack does.

  Args:
    examples: {"inputs": int32 [n, I], "targets": int32 [n, T]}, zeros at the end are padding, and
      features with a value for each target.
    row: int64 [n], ascending: the row of each example.
    rows: how many there are.
    architecture: a decoder-only model gets the inputs as a prefix of the targets.
    lengths: {task feature: tokens} of a row.

  Returns:
    {feature: [rows, length]}, with "<side>_segment_ids" (from 1; 0 is padding); of windows also
    "raw" and "raw_hidden", one after the other with a zero after each.
  """
  widths = packing.widths(lengths, architecture)
  if architecture == "decoder_only" and "inputs" in examples:
    examples = {**examples, **converters.join_prefix(examples, widths["targets"])}
  result: Features = {}
  if "raw_hidden" in examples:
    result |= _texts(examples, row, rows, sum(widths.values()))
  first = np.searchsorted(row, row)  # the first example of the same row
  number = np.arange(len(row)) - first + 1
  for name, width in widths.items():
    real = examples[name] != 0
    sizes = _sizes(real)
    before = np.cumsum(sizes) - sizes
    starts = before - before[first]
    assert (starts + sizes <= width).all(), "a row was planned with too little room"
    place = row * width + starts
    inside = np.arange(real.shape[1])[None, :] < sizes[:, None]
    columns = (place[:, None] + np.arange(real.shape[1])[None, :])[inside]
    moved = {name: examples[name]}
    if name == "targets":
      moved |= {key: examples[key] for key in packing.ALIGNED if key in examples}
    moved[f"{name}_segment_ids"] = np.broadcast_to(number[:, None], real.shape).astype(np.int32)
    for key, value in moved.items():
      flat = np.zeros(rows * width, value.dtype)
      flat[columns] = value[inside]
      result[key] = flat.reshape(rows, width)
  return result


def _texts(examples: Features, row: np.ndarray, rows: int, width: int) -> Features:
  """Puts the windows of examples, and what of them is hidden, into rows [rows, width]."""
  texts = {"raw": np.zeros((rows, width), np.int32), "raw_hidden": np.zeros((rows, width), bool)}
  sizes = _sizes(examples["raw"] != 0).tolist()
  at = [0] * rows
  for index, (into, size) in enumerate(zip(row.tolist(), sizes, strict=True)):
    for name, text in texts.items():
      text[into, at[into] : at[into] + size] = examples[name][index, :size]
    at[into] += size + 1
  return texts


def _sizes(real: np.ndarray) -> np.ndarray:
  """Returns where the last true value of each row is, from 1: bool [n, L] -> int64 [n]."""
  return np.where(real.any(1), real.shape[1] - real[:, ::-1].argmax(1), 0)
