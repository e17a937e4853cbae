"""The data of a run on token caches: rows by their numbers, for any number of processes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.data import run_facts
from t5x_style.data.random_access import batches
from t5x_style.data.random_access.rows import Rows
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.errors import UserError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """The rows of an evaluation: the validation split of one corpus.

  Attributes:
    rows: of the split.
    first: this many rows from the start are evaluated on, and then
    last: the rows with these numbers, int64 [n].
  """

  rows: Rows
  first: int
  last: np.ndarray

  @property
  def count(self) -> int:
    """How many rows there are."""
    return self.first + len(self.last)

  def numbers(self, places: np.ndarray) -> np.ndarray:
    """Returns the numbers of the rows at some places, each below `count`: int64 [n] -> [n]."""
    padded = np.append(self.last, 0)
    return np.where(
      places < self.first, places, padded[np.clip(places - self.first, 0, len(self.last))]
    )


class Dataset(run_facts.DatasetOfObjectives):
  """The data of a run as training uses it; implements training.dataset.Dataset.

  Row r of batch b is row b * batch_size + r of the run, and its features are a function of that
  number, the caches, the objective and the seed. So a process needs nothing of the others.

  Attributes:
    rows: of training.
    ids: of the vocabulary of the caches.
    vocab_size: how many ids the model may get, extra ids included.
    special_ids: the model's ids of padding and of the end and the start of a sequence.
    feature_shapes: {feature: shape and dtype in the global batch}.
    token_bytes: int32 [V], the bytes of text that each id stands for; None if the bits per byte of
      the objectives are not comparable with others, or tokens do not keep the text.
    description: names the corpora and the objectives.
    coverage: None: the texts themselves are not read.
  """

  coverage = None

  def __init__(
    self,
    rows: Rows,
    held_out: Sequence[HeldOut],
    absent: Sequence[str],
    facts: run_facts.Facts,
    *,
    batch_size: int,
    process: tuple[int, int],
    description: str,
    identity: Mapping[str, Any],
    vocabulary: Mapping[str, Any],
  ):
    """Joins what t5x_style.data.random_access.opening has opened.

    Args:
      absent: the corpora, or components of one, that have no held-out rows.
      facts: of the components.
      batch_size: global batch in rows.
      process: index and count.
      identity: what decides on the batches, as JSON values.
      vocabulary: its identity.
    """
    super().__init__(facts)
    self.rows, self._held_out = rows, tuple(held_out)
    self._absent = tuple(absent)
    self.ids: TokenIds = rows.ids
    self.vocab_size, self.special_ids = self.ids.codec.vocab_size, self.ids.special_ids
    self.batch_size = batch_size
    self.description = description
    self._process_index, self._process_count = process
    self._identity, self._vocabulary = identity, vocabulary
    self.token_bytes = self.ids.codec.token_bytes if facts.bytes_are_comparable else None
    first = rows.features(np.zeros(1, np.int64))
    self.feature_shapes = {
      name: jax.ShapeDtypeStruct((batch_size, *value.shape[1:]), value.dtype)
      for name, value in first.items()
      if name != "useful"
    }

  def train(self) -> batches.BatchIterator:
    """Returns a new iterator over this process' rows of the training batches, from their start."""
    return batches.BatchIterator(
      self._batch, self._fingerprint, lambda number: self.rows.epochs(number * self.batch_size)
    )

  def evaluation(self, max_batches: int | None) -> list[Batch]:
    """Returns this process' rows of the first batches of the validation split.

    They are the same ones each time, and one pass at most; with several corpora this many of each.
    The last batch is filled up with rows of zeros, which carry no weight.

    Raises:
      UserError: a corpus has no validation split, or one without an example for an objective.
    """
    if self._absent:
      raise UserError(
        f"the split 'validation' of the token cache of {', '.join(self._absent)} has no example. "
        "Make the cache of a corpus with validation data: VALIDATION_FILES or a larger "
        "VALIDATION_FRACTION for files of your own."
      )
    found = []
    for held_out in self._held_out:
      count = -(-held_out.count // self.batch_size)
      if max_batches is not None:
        count = min(count, max_batches)
      found += [self._evaluation_batch(held_out, number) for number in range(count)]
    return found

  @property
  def most_batches(self) -> int | None:
    """How many batches the limits on the epochs of the corpora allow; None if any number."""
    rows = self.rows.schedule.rows
    return None if rows is None else rows // self.batch_size

  @property
  def feature_lengths(self) -> dict[str, int]:
    """The tokens of each task feature."""
    return dict(self.rows.lengths)

  @property
  def rates(self) -> dict[str, float]:
    """{component: its share of the rows, in any unit}."""
    return {component.name: component.rate for component in self.rows.components}

  def rows_of_component(self, index: int, rows: int) -> Iterator[Batch]:
    """Yields batches of rows of one component, before components are mixed, in training.

    The ids are those of `ids`; rows also have the text, rows.OF_TEXT.
    """
    for first in itertools.count(0, rows):
      yield self.rows.first_of_component(index, np.arange(first, first + rows))

  def held_out_texts(self) -> Iterator[str]:
    """Yields the held-out documents of each corpus, as the vocabulary writes their tokens."""
    splits = {
      id(component.examples.split): component.examples.split
      for held_out in self._held_out
      for component in held_out.rows.components
    }
    for split in splits.values():
      for document in range(len(split)):
        yield self.ids.decode_visible(split.tokens(document).tolist())

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of a model's ids, with special tokens and sentinels, without padding."""
    return self.ids.decode_visible(self.ids.own(np.asarray(ids)))

  @property
  def codec(self) -> TextCodec:
    """The codec of the vocabulary."""
    return self.ids.codec

  def store_vocabulary(self, model_dir: epath.Path) -> None:
    """Writes MODEL_DIR/vocabulary, from which t5x_style.load reads the vocabulary of the model."""
    folder = model_dir / vocabulary_folder.FOLDER
    vocabulary_folder.write(folder, self.ids.codec, self._vocabulary)

  def identity(self) -> dict[str, Any]:
    """Returns what decides on the batches: a run resumes only if it is the same."""
    return dict(self._identity)

  def files(self) -> dict[str, list]:
    """Returns {}: the identity names the caches by their checksums."""
    return {}

  def row_numbers(self, number: int) -> np.ndarray:
    """Returns the numbers of this process' rows of batch `number`, int64 [n]."""
    share = self.batch_size // self._process_count
    return number * self.batch_size + self._process_index * share + np.arange(share)

  def _batch(self, number: int) -> batches.Made:
    features = self.rows.features(self.row_numbers(number))
    useful = features.pop("useful")
    return batches.Made(features, int((~useful).sum()))

  def _evaluation_batch(self, held_out: HeldOut, number: int) -> Batch:
    numbers = self.row_numbers(number)
    real = numbers < held_out.count
    features = held_out.rows.features(held_out.numbers(numbers[real]))
    features.pop("useful")
    result = {}
    for name, shape in self.feature_shapes.items():
      result[name] = np.zeros((len(numbers), *shape.shape[1:]), shape.dtype)
      if name in features:
        result[name][real] = features[name]
    return result

  @functools.cached_property
  def _fingerprint(self) -> str:
    text = json.dumps(self._identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
