"""What an objective makes of units of a split: the rows of a component, as task features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from t5x_style.data import noise
from t5x_style.data.arrays import Features
from t5x_style.data.random_access import placement, units
from t5x_style.data.random_access.plans import Plan
from t5x_style.data.random_access.units import Units
from t5x_style.data.windows import CorruptWindow
from t5x_style.token_cache import Split


class Member(NamedTuple):
  """Tokens of a document in a row, from `start` to before `end`; EOS is none of them."""

  document: int
  start: int
  end: int


class Pieces(Protocol):
  """Makes an example of each piece of text.

  Attributes:
    units: where the pieces are in the joined stream.
  """

  @property
  def units(self) -> Units: ...

  def examples(self, pieces: np.ndarray, epochs: np.ndarray) -> Features:
    """Returns the examples of pieces, int64 [n] each -> [n, ...], padded with zeros.

    They may hold "raw", int32 [n, L], the text, "raw_hidden", bool [n, L], what the model has to
    find out of it, and "useful", bool [n], whether there is something to predict.
    """
    ...

  def others(self, piece: int, epoch: int) -> list[Member]:
    """Returns the parts of other documents in the example of a piece."""
    ...


class Examples(Protocol):
  """The rows of a component.

  Attributes:
    split: of the token cache.
    pieces: what the rows are made of.
    count: how many rows there are in an epoch.
  """

  @property
  def split(self) -> Split: ...

  @property
  def pieces(self) -> Pieces: ...

  @property
  def count(self) -> int: ...

  def rows(self, rows: np.ndarray, epochs: np.ndarray) -> Features:
    """Returns task features of rows, int64 [n] each -> [n, length], as `Pieces.examples`."""
    ...

  def members(self, row: int, epoch: int) -> list[Member]:
    """Returns the parts of documents that a row is made of, in order."""
    ...

  def texts(self, row: int, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the text of each example of a row, int32 [n], and what of it is hidden, bool [n]."""
    ...


@dataclasses.dataclass(frozen=True)
class Windows:
  """Windows of text, each corrupted by an objective.

  Attributes:
    split: of the cache.
    units: the windows.
    corrupt: the objective.
    seed: of the noise.
  """

  split: Split
  units: Units
  corrupt: CorruptWindow
  seed: int

  def examples(self, pieces: np.ndarray, epochs: np.ndarray) -> Features:
    starts, lengths = self.units.ranges(pieces, epochs)
    tokens = units.read(self.split, starts, lengths, self.units.length)
    window = {
      "tokens": tokens,
      "lengths": lengths.astype(np.int32),
      "seeds": noise.window_seeds(tokens, salts(self.seed, epochs)),
    }
    features = dict(self.corrupt(window))
    features["raw"] = tokens
    if "hidden" in features:
      features["raw_hidden"] = features.pop("hidden")
    return features

  def others(self, piece: int, epoch: int) -> list[Member]:
    del piece, epoch
    return []


@dataclasses.dataclass(frozen=True)
class Alone:
  """Each piece is a row.

  Attributes:
    split, pieces: what rows are made of.
    lengths: {task feature: tokens} of a row; examples may be shorter.
  """

  split: Split
  pieces: Pieces
  lengths: Mapping[str, int]

  @property
  def count(self) -> int:
    return self.pieces.units.count

  def rows(self, rows: np.ndarray, epochs: np.ndarray) -> Features:
    return placement.padded(self.pieces.examples(rows, epochs), self.lengths)

  def members(self, row: int, epoch: int) -> list[Member]:
    own = members_of(self.split, *self.pieces.units.ranges(np.array([row]), np.array([epoch])))
    return own + self.pieces.others(row, epoch)

  def texts(self, row: int, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return texts_of(self.pieces, np.array([row]), epoch)


@dataclasses.dataclass(frozen=True)
class Shared:
  """Short pieces share rows, as a plan says; segment ids keep them apart.

  Attributes:
    split, pieces: what rows are made of.
    plan: which pieces share a row; it has `examples` and `rows`.
    architecture: of the model.
    lengths: {task feature: tokens} of a row.
  """

  split: Split
  pieces: Pieces
  plan: Plan
  architecture: str
  lengths: Mapping[str, int]

  @property
  def count(self) -> int:
    assert self.plan.rows is not None
    return len(self.plan.rows) - 1

  def rows(self, rows: np.ndarray, epochs: np.ndarray) -> Features:
    pieces, row = self._pieces(rows)
    examples = self.pieces.examples(pieces, epochs[row])
    return placement.shared(examples, row, len(rows), self.architecture, self.lengths)

  def members(self, row: int, epoch: int) -> list[Member]:
    pieces, _ = self._pieces(np.array([row]))
    return members_of(self.split, *self.pieces.units.ranges(pieces, np.full_like(pieces, epoch)))

  def texts(self, row: int, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    pieces, _ = self._pieces(np.array([row]))
    return texts_of(self.pieces, pieces, epoch)

  def _pieces(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pieces of rows, and the index of the row of each."""
    assert self.plan.rows is not None and self.plan.examples is not None
    firsts, ends = np.asarray(self.plan.rows[rows]), np.asarray(self.plan.rows[rows + 1])
    counts = ends - firsts
    row = np.repeat(np.arange(len(rows)), counts)
    inside = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(self.plan.examples[firsts[row] + inside]), row


def salts(seed: int, epochs: np.ndarray) -> np.ndarray:
  """Returns the salt of the noise of each epoch, int64 [n] -> [n]; see noise.salt."""
  return noise.salt(np.stack([np.full_like(epochs, seed), epochs], axis=-1))


def texts_of(pieces: Pieces, chosen: np.ndarray, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns the text of each of some pieces and what of it is hidden; see Examples.texts."""
  epochs = np.full_like(chosen, epoch)
  examples = pieces.examples(chosen, epochs)
  _, lengths = pieces.units.ranges(chosen, epochs)
  hidden = examples.get("raw_hidden", np.zeros_like(examples["raw"], bool))
  return [
    (examples["raw"][i, :length], hidden[i, :length]) for i, length in enumerate(lengths.tolist())
  ]


def members_of(split: Split, starts: np.ndarray, lengths: np.ndarray) -> list[Member]:
  """Returns the parts of documents in ranges of the joined stream, which may run over its end."""
  found = []
  for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
    first = min(length, split.joined_length - start)
    for low, high in ((start, start + first), (0, length - first)):
      if low == high:
        continue
      first_document, last = split.document_at(np.array([low, high - 1])).tolist()
      bounds = split.starts(np.arange(first_document, last + 2)).tolist()
      for document, begin, after in zip(
        range(first_document, last + 1), bounds[:-1], bounds[1:], strict=True
      ):
        part = Member(document, max(low - begin, 0), min(high, after - 1) - begin)
        if part.end > part.start:
          found.append(part)
  return found
