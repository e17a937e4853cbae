"""Examples of documents, or of pieces of them, for objectives that cut no windows."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from t5x_style.data import noise
from t5x_style.data.arrays import Features
from t5x_style.data.objectives.base import ExamplesOfDocument, Objective
from t5x_style.data.random_access import units
from t5x_style.data.random_access.examples import Member
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.errors import UserError
from t5x_style.token_cache import Split

# This many pieces of another document are offered to an objective that takes a part of one.
_OTHER_PIECES = 4
# This many documents are looked at to find one that differs; copies lie next to each other.
_TRIES = 64


@dataclasses.dataclass(frozen=True)
class Documents:
  """An example of each document, or of each piece of it.

  Attributes:
    split: of the cache.
    units: the pieces.
    objective: it reads documents.
    ids: of the vocabulary.
    lengths: {task feature: tokens} of the component.
    architecture: of the model.
    seed: of the noise.
  """

  split: Split
  units: units.PieceUnits
  objective: Objective
  ids: TokenIds
  lengths: dict[str, int]
  architecture: str
  seed: int

  def examples(self, pieces: np.ndarray, epochs: np.ndarray) -> Features:
    starts, lengths = self.units.ranges(pieces, epochs)
    texts = units.read(self.split, starts, lengths, int(lengths.max(initial=0)))
    numbers, found = self.units.documents(pieces), []
    for row, (number, epoch, length) in enumerate(
      zip(numbers.tolist(), epochs.tolist(), lengths.tolist(), strict=True)
    ):
      document: Features = {
        "targets": texts[row, :length],
        "noise_seed": np.array([self.seed, epoch], np.int64),
      }
      if self.objective.target_is_text:
        document["target_tokens"] = self.split.target_tokens(number)
      elif self.objective.label_names:
        document["target"] = self.split.target(number)
      if self.objective.reads_other_document:
        document["other_targets"] = self._tokens(self._other(number, int(starts[row]), epoch))
      example = self._make(document)
      # A piece of a document that gives several examples gives one.
      found.append({k: v[0] for k, v in example.items()} if self._several else example)
    return {"raw": texts, **stacked(found)}

  def others(self, piece: int, epoch: int) -> list[Member]:
    if not self.objective.reads_other_document:
      return []
    pieces, epochs = np.array([piece]), np.array([epoch])
    (start,) = self.units.ranges(pieces, epochs)[0].tolist()
    (number,) = self.units.documents(pieces).tolist()
    example = {name: value[0] for name, value in self.examples(pieces, epochs).items()}
    offered = self._other(number, start, epoch)
    if not example["pair_label"] or offered is None:
      return []
    # The second segment is a part of what was offered; its last token is [SEP].
    second = example["targets"][example["token_types"] == 1][:-1]
    places = np.lib.stride_tricks.sliding_window_view(self._tokens(offered), len(second))
    first = offered.start + int((places == second).all(axis=1).argmax())
    return [Member(offered.document, first, first + len(second))]

  def check(self) -> None:
    """Raises UserError if the objective reads other documents, and there is only one."""
    if not self.objective.reads_other_document or self._other(0, 0, 0, len(self.split)):
      return
    raise UserError(
      f"{self.objective.name} takes half of the second segments from another document, but the "
      f"{self.split.name!r} split of the token cache has one document, or copies of one. Make the "
      "cache of more documents, or include objectives/sentence_order.gin, which needs one only."
    )

  @functools.cached_property
  def _make(self) -> ExamplesOfDocument:
    return self.objective.examples_of_document(self.ids, self.lengths, self.architecture)

  @property
  def _several(self) -> bool:
    return self.units.cutting.kind == "chunks"

  def _other(self, number: int, start: int, epoch: int, tries: int = _TRIES) -> Member | None:
    """Returns a part of a document that differs from document `number`; None if none is found.

    Copies of a document are the same, and so are the parts of a text that was read as several.

    Args:
      start: where the piece begins in the joined stream.
      tries: how many documents are looked at, from a random one on.
    """
    salt = noise.salt(np.array([[self.seed, epoch]], np.int64)).view(np.uint64)
    draws = noise.random_bits(noise.mix(np.array([start], np.uint64)) ^ salt, 2)[0]
    own, source = self.split.tokens(number), self.split.source(number)
    first = int(draws[0] % np.uint64(len(self.split)))
    for step in range(min(tries, len(self.split))):
      other = (first + step) % len(self.split)
      found = self.split.source(other)
      if (found.file, found.line) == (source.file, source.line):
        continue
      tokens = self.split.tokens(other)
      if not len(tokens) or np.array_equal(tokens, own):
        continue
      most = _OTHER_PIECES * self.units.length
      begin = int(draws[1] % np.uint64(max(1, len(tokens) - most + 1)))
      return Member(other, begin, min(begin + most, len(tokens)))
    return None

  def _tokens(self, part: Member | None) -> np.ndarray:
    if part is None:
      return np.zeros(0, np.int32)
    return self.split.tokens(part.document)[part.start : part.end]


def stacked(examples: list[Features]) -> Features:
  """Joins examples, each {feature: [n] or []}, to {feature: [examples, longest]}, zeros after."""
  result = {}
  for name in examples[0]:
    values = [np.asarray(example[name]) for example in examples]
    if not values[0].ndim:
      result[name] = np.stack(values)
      continue
    full = np.zeros((len(values), max(map(len, values))), values[0].dtype)
    for row, value in zip(full, values, strict=True):
      row[: len(value)] = value
    result[name] = full
  return result
