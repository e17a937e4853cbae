"""The ids of a vocabulary inside t5x_style.data: 0 is padding, the sentinels are the highest ids.

A codec of a tokenizer.json may number its tokens differently ("!" is 0 in GPT-2, padding is 1 in
RoBERTa). So tokens are renumbered for the objectives, and the model gets the tokenizer's own
numbers (t5x_style/data/model_ids.py). SentencePiece models and bytes have the same ids everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from t5x_style.codecs.text_codec import TextCodec
from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec
from t5x_style.data.tokenizers.vocabulary import Vocabulary


class SpecialIds(NamedTuple):
  """The model's ids of padding and of the end and the start of a sequence."""

  pad: int  # -1 if the vocabulary has none
  eos: int
  start: int


class TokenIds:
  """What objectives have to know of a vocabulary; made without TensorFlow and SeqIO.

  Attributes:
    codec: text to the model's ids.
    numbers: int32 [V], the model's id of each id, -1 for padding if it has none; None if they are
      the same.
  """

  def __init__(self, codec: TextCodec, numbers: np.ndarray | None = None):
    self.codec, self.numbers = codec, numbers

  @property
  def vocab_size(self) -> int:
    """How many ids there are; sentinel k is vocab_size - 1 - k."""
    return self.codec.vocab_size if self.numbers is None else len(self.numbers)

  @property
  def sentinels(self) -> int:
    """How many sentinels there are."""
    return len(self.codec.sentinel_ids)

  @property
  def eos_id(self) -> int:
    """Ends a document."""
    return int(self.own(self.codec.eos_id))

  @property
  def unk_id(self) -> int | None:
    """The unknown token; None if every text can be spelt."""
    return None if self.codec.unknown_id is None else int(self.own(self.codec.unknown_id))

  def special_id(self, token: str) -> int:
    """Returns the id of a special token such as "[MASK]".

    The model has to declare it special: an ordinary piece of that name would also occur in texts.

    Raises:
      UserError: the vocabulary has no such special token.
    """
    return int(self.own(self.codec.special_id(token)))

  def marks(self) -> dict[int, str]:
    """Returns {id: how it is shown} for the ids that stand for no text; padding is shown as ""."""
    found = self.codec.marks
    if self.numbers is None:
      return dict(found)
    own = self.own(np.array([*found])).tolist()
    return {0: ""} | dict(zip(own, found.values(), strict=True))

  def visible_bytes(self) -> list[bytes]:
    """Returns the bytes that each id is shown as, [V]."""
    table = self.codec.visible_bytes
    if self.numbers is None:
      return list(table)
    return [table[i] if i >= 0 else b"" for i in self.numbers]

  def decode_visible(self, ids: Iterable[int]) -> str:
    """Returns all the text of `ids` but padding; see TextCodec.decode_visible."""
    shown = [i for i in map(int, ids) if i > 0]
    if self.numbers is not None:
      beyond = self.codec.vocab_size
      shown = [int(self.numbers[i]) if i < len(self.numbers) else beyond for i in shown]
    return self.codec.decode_visible(shown)

  def text_bytes(self) -> np.ndarray:
    """Returns how many UTF-8 bytes of text each id stands for, int32 [V]; see TextCodec."""
    sizes = self.codec.text_bytes
    if self.numbers is None:
      return sizes
    return np.where(self.numbers >= 0, sizes[self.numbers], 0).astype(np.int32)

  def ordinary_ids(self) -> np.ndarray:
    """Returns the ids that stand for text, int32 [K]: not padding, EOS, UNK, special, sentinels."""
    return np.flatnonzero(self.text_bytes() > 0).astype(np.int32)

  def own(self, ids: np.ndarray | Iterable[int] | int) -> np.ndarray:
    """Converts the model's ids to those of this class; unknown and negative ones are padding."""
    if self.numbers is None:
      return np.asarray(ids)
    ids = np.asarray(ids, np.int64)
    inside = (ids >= 0) & (ids < len(self._own))
    return np.where(inside, self._own[np.where(inside, ids, 0)], 0)

  @functools.cached_property
  def _own(self) -> np.ndarray:
    assert self.numbers is not None
    table = np.zeros(self.codec.vocab_size, np.int32)
    real = self.numbers >= 0
    table[self.numbers[real]] = np.flatnonzero(real)
    return table

  @property
  def special_ids(self) -> SpecialIds:
    """The model's ids that decoding needs."""
    return SpecialIds(self.codec.pad_id, self.codec.eos_id, self.codec.start_id)

  @property
  def renumbered(self) -> bool:
    """Whether the model's ids differ from these, or its start token from 0."""
    numbers = self.numbers
    same = numbers is None or np.array_equal(numbers, np.arange(len(numbers)))
    return not same or self.codec.start_id != 0


def of_codec(codec: TextCodec) -> TokenIds:
  """Returns the ids of a codec, such as that of a token cache."""
  if isinstance(codec, TokenizerJsonCodec):
    return TokenIds(codec, numbering(codec))
  return TokenIds(codec)


def of(vocabulary: Vocabulary) -> TokenIds:
  """Returns the ids of a vocabulary of SeqIO.

  Raises:
    UserError: it is neither SentencePiece's nor one of bytes nor an ExternalVocabulary.
  """
  from t5x_style.data.tokenizers.base import ExternalVocabulary, codec_of  # They import SeqIO.

  codec = codec_of(vocabulary)
  return TokenIds(
    codec, vocabulary.model_ids if isinstance(vocabulary, ExternalVocabulary) else None
  )


def numbering(codec: TokenizerJsonCodec) -> np.ndarray:
  """Returns the tokenizer's numbers in the order of SeqIO's ids, int32 [V].

  pad is 1, of 4 tokens:       [1, 0, 2, 3]            0 and padding change places
  no padding, 2 extra ids:     [-1, 1, 2, 3, 0, 4, 5]  0 moves to the end
  """
  extra = set(codec.extra_ids.tolist())
  rest = [i for i in range(codec.vocab_size) if i not in extra]
  if codec.pad_id < 0:
    rest = [-1, *rest[1:], rest[0]]
  else:
    at = rest.index(codec.pad_id)
    rest[0], rest[at] = rest[at], rest[0]
  return np.array([*rest, *codec.extra_ids], np.int32)
