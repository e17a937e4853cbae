"""The shapes of a run's batches without its text: a corpus and a vocabulary that stand in for it.

The run's own objective makes the batches, so that lengths, segments and components are the true
ones; of corpus and vocabulary nothing is read, and nothing need be there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import seqio
import tensorflow as tf

from t5x_style.data.tokenizers import vocabularies

_DOCUMENTS, _TEXT = 64, "A sentence that stands in for others. " * 128


class Corpus:
  """Documents of nothing, in place of CORPUS."""

  name = "stand_in"

  def source(self) -> seqio.DataSource:
    def documents(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
      del split, shuffle_files, seed
      return tf.data.Dataset.from_tensors({"text": _TEXT}).repeat(_DOCUMENTS)

    return seqio.FunctionDataSource(documents, splits=("train", "validation"))

  def fingerprint(self) -> str:
    return ""


class _AnyToken(list):
  """Has every special token that it is asked for."""

  def __contains__(self, token: Any) -> bool:
    if not super().__contains__(token):
      self.append(token)
    return True


class Vocabulary(vocabularies.ByteVocabulary):
  """As many ids as the model has rows, and every special token, in place of VOCABULARY."""

  def __init__(self, vocab_size: int, special_tokens: Iterable[str] = ()):
    super().__init__(extra_ids=vocab_size - vocabularies.byte_vocabulary(0).vocab_size)
    self.borrowed = _AnyToken(special_tokens)  # type: ignore[assignment]
