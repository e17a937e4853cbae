"""What an epoch consists of: ranges of the stream of all documents, each with an EOS after it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from t5x_style.data import noise
from t5x_style.data.pieces import Cutting
from t5x_style.token_cache import Split


class Units(Protocol):
  """The units of an epoch, numbered from 0.

  Attributes:
    count: how many there are, the same in every epoch.
    length: the most tokens of a unit.
  """

  count: int
  length: int

  def ranges(self, units: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where units begin in the stream of the split, and their tokens, int64 [n] each.

    A range that goes beyond the end of the stream continues at its beginning.
    """
    ...


class JoinedWindows:
  """Windows of `length` tokens of the joined documents, EOS included.

  The stream is a circle that is cut at a place drawn for each epoch, so no two epochs have the same
  windows. Each token is in one window of an epoch. What is left at the end of the circle is a
  shorter window; a single token is left out.
  """

  def __init__(self, split: Split, length: int, key: int):
    """`key` decides on the places of the cuts."""
    self._total, self._key, self.length = split.joined_length, key, length
    self._full, self._rest = divmod(self._total, length)
    self.count = self._full + (self._rest >= 2)

  def ranges(self, units: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    draws = noise.mix(epochs.astype(np.uint64) ^ np.uint64(self._key))
    cuts = (draws % np.uint64(max(self._total, 1))).astype(np.int64)
    starts = (cuts + units * self.length) % max(self._total, 1)
    return starts, np.where(units < self._full, self.length, self._rest)


class PieceUnits:
  """Pieces of each document, as `cutting` makes them; the same ones in every epoch."""

  def __init__(self, split: Split, cutting: Cutting, positions: np.ndarray):
    """`positions`, int64 [pieces], are their places in the joined stream, in ascending order."""
    self._split, self.cutting, self._positions = split, cutting, positions
    self.count, self.length = len(positions), cutting.length

  def ranges(self, units: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    del epochs
    positions = np.asarray(self._positions[units])
    documents = self._split.document_at(positions)
    starts = self._split.starts(documents)
    lengths = self._split.starts(documents + 1) - starts - 1
    inside = positions - starts
    return positions, self.cutting.ends(lengths, inside) - inside

  def documents(self, units: np.ndarray) -> np.ndarray:
    """Returns the document that each piece is of, int64 [n]."""
    return self._split.document_at(np.asarray(self._positions[units]))


def read(split: Split, starts: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
  """Returns the tokens of ranges of the joined stream, with zeros after them: int32 [n, width]."""
  rows = np.zeros((len(starts), width), np.int32)
  total = split.joined_length
  for row, start, length in zip(rows, starts.tolist(), lengths.tolist(), strict=True):
    first = min(length, total - start)
    if first:
      row[:first] = split.tokens_between(start, start + first)[0]
    if first < length:
      row[first:length] = split.tokens_between(0, length - first)[0]
  return rows
