"""A placeholder corpus and vocabulary: batches of a run's true shapes without reading its data.

launch.precompile uses them. The run's own objective makes the batches, so lengths, segments and
components are the true ones, and no file of the corpus or the vocabulary needs to exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import seqio

from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import vocabularies
from t5x_style.data.tokenizers.seqio_vocabularies import ByteVocabulary

_DOCUMENTS, _TEXT = 64, "A sentence that stands in for others. " * 128


class PlaceholderCorpus:
  """The same text 64 times."""

  name = "placeholder"

  def source(self) -> seqio.DataSource:
    def documents(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
      del split, shuffle_files, seed
      return tf.data.Dataset.from_tensors({"text": _TEXT}).repeat(_DOCUMENTS)

    return seqio.FunctionDataSource(documents, splits=("train", "validation"))

  def fingerprint(self) -> str:
    return ""


class _AnyToken(list):
  """A list that contains every token: it appends those that are looked up."""

  def __contains__(self, token: Any) -> bool:
    if not super().__contains__(token):
      self.append(token)
    return True


class PlaceholderVocabulary(ByteVocabulary):
  """A byte vocabulary of any size that has every special token."""

  def __init__(self, vocab_size: int, special_tokens: Iterable[str] = ()):
    super().__init__(extra_ids=vocab_size - vocabularies.byte_vocabulary(0).vocab_size)
    self.borrowed = _AnyToken(special_tokens)  # type: ignore[assignment]
