"""Base classes of the vocabularies; a new kind of tokenizer subclasses ExternalVocabulary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import seqio

from t5x_style.codecs import sentencepiece_models
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.codecs.sentencepiece_codec import SentencePieceCodec
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.data.tensorflow_setup import tf
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
    model_ids: int32 [V], the tokenizer's number of each id; -1 for padding if it has none.
    model_vocab_size: how many numbers the tokenizer has, appended extra ids included.
    start_id: the tokenizer's number of the token that a decoder starts with.
  """

  name: str
  model_ids: np.ndarray
  model_vocab_size: int
  start_id: int

  @property
  def codec(self) -> TextCodec:
    """The tokenizer itself, with its own numbers."""
    raise NotImplementedError

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


def codec_of(vocabulary: seqio.Vocabulary) -> TextCodec:
  """Returns the codec that gives a text the ids that a model gets from this vocabulary.

  Raises:
    UserError: it is neither SentencePiece's nor one of bytes nor an ExternalVocabulary.
  """
  if isinstance(vocabulary, ExternalVocabulary):
    return vocabulary.codec
  extra, borrowed = vocabulary._extra_ids, getattr(vocabulary, "borrowed", ())
  if isinstance(vocabulary, seqio.ByteVocabulary):
    return ByteCodec(extra, borrowed)
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    model = vocabulary._model_context()
    if not isinstance(model, sentencepiece_models.Model):  # SeqIO's own class
      model = sentencepiece_models.load(vocabulary.sp_model, appended=None)
    return SentencePieceCodec(model, name_of(vocabulary), extra, borrowed)
  raise UserError(
    f"what the ids of a {type(vocabulary).__name__} stand for is not known; use a SentencePiece, "
    "byte or Hugging Face vocabulary."
  )
