"""Base classes of the vocabularies; a new kind of tokenizer subclasses ExternalVocabulary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from t5x_style.errors import UserError


class SpecialsFromExtraIds(seqio.Vocabulary):
  """Gives special tokens to the low end of the extra ids, the sentinels that are used last.

  `extra_ids` counts the sentinels that are left; sentinel k is still vocab_size - 1 - k.
  """

  borrowed: tuple[str, ...] = ()

  @property
  def extra_ids(self) -> int:
    return self._extra_ids - len(self.borrowed)

  def borrow(self, tokens: Sequence[str]) -> None:
    """Gives each of `tokens` one of the extra ids; raises UserError if there are too few."""
    if isinstance(tokens, str):
      raise UserError(
        f"specials_from_extra_ids = {tokens!r} is one text; write a tuple: ({tokens!r},)."
      )
    if len(tokens) > self._extra_ids:
      raise UserError(
        f"specials_from_extra_ids = {tuple(tokens)} takes {len(tokens)} extra ids, but there are "
        f"{self._extra_ids}; raise extra_ids (EXTRA_IDS in the gin files)."
      )
    self.borrowed = tuple(tokens)


class ExternalVocabulary(SpecialsFromExtraIds):
  """A vocabulary made from a tokenizer of another library; a new kind subclasses it.

  Its ids are SeqIO's: 0 is padding and the sentinels are the highest ids. The tokenizer may number
  its tokens differently; `model_ids` holds its own numbers, which the model gets.

  Attributes:
    name: for messages.
    named_tokens: {name: id} of the special tokens that objectives may use.
    special_marks: {id: how it is shown} of ids that stand for no text, without the extra ids.
    piece_bytes: [V], the text that each id stands for.
    keeps_text: whether decoding gives back the exact text, spaces included.
    model_ids: int32 [V], the tokenizer's number of each id; -1 for padding if it has none.
    model_vocab_size: how many numbers the tokenizer has, appended extra ids included.
    start_id: the tokenizer's number of the token that a decoder starts with.
  """

  name: str
  named_tokens: dict[str, int]
  special_marks: dict[int, str]
  piece_bytes: list[bytes]
  keeps_text: bool
  model_ids: np.ndarray
  model_vocab_size: int
  start_id: int

  def facts(self) -> dict[str, Any]:
    """Returns what identifies the vocabulary, as JSON values."""
    raise NotImplementedError

  def own_ids(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Converts the tokenizer's numbers to SeqIO's ids; negative numbers are padding."""
    raise NotImplementedError

  def tokenize(self, documents: tf.data.Dataset) -> tf.data.Dataset:
    """{"text": string} -> {"targets": int32 [n], "repaired": bool}; see tasks.tokenize."""
    raise NotImplementedError

  @property
  def renumbered(self) -> bool:
    """Whether the tokenizer's numbers differ from SeqIO's ids, or its start token from 0."""
    same = np.array_equal(self.model_ids, np.arange(len(self.model_ids)))
    return not same or self.start_id != 0


def name_of(vocabulary: seqio.Vocabulary) -> str:
  """Returns the name of a vocabulary in messages and in the identity of a run."""
  if isinstance(vocabulary, ExternalVocabulary):
    return os.path.basename(vocabulary.name)
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return os.path.basename(vocabulary.sentencepiece_model_file)
  return "bytes" if isinstance(vocabulary, seqio.ByteVocabulary) else type(vocabulary).__name__
