"""The text that the token ids of a SeqIO vocabulary stand for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import seqio

from t5x_style.data.tokenizers.base import ExternalVocabulary, codec_of


def id_bytes(vocabulary: seqio.Vocabulary) -> list[bytes]:
  """Returns the bytes that each id is shown as, [V]."""
  table = codec_of(vocabulary).visible_bytes
  if isinstance(vocabulary, ExternalVocabulary):
    return [table[i] if i >= 0 else b"" for i in vocabulary.model_ids]
  return list(table)


def token_bytes(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """Returns how many UTF-8 bytes of text each id stands for, int32 [V]; see TextCodec."""
  sizes = codec_of(vocabulary).text_bytes
  if isinstance(vocabulary, ExternalVocabulary):
    return np.where(vocabulary.model_ids >= 0, sizes[vocabulary.model_ids], 0).astype(np.int32)
  return sizes


def ordinary_ids(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """Returns the ids that stand for text, int32 [K]: not padding, EOS, UNK, special or sentinel."""
  return np.flatnonzero(token_bytes(vocabulary) > 0).astype(np.int32)


def decode_visible(vocabulary: seqio.Vocabulary, ids: Iterable[int]) -> str:
  """Returns the text of `ids`, without padding only; see TextCodec.decode_visible.

  SeqIO's decode stops at EOS, drops special tokens, and drops sentinels or shows \u2047 for them.
  """
  shown = [i for i in map(int, ids) if i > 0]
  if isinstance(vocabulary, ExternalVocabulary):
    numbers, beyond = vocabulary.model_ids, vocabulary.model_vocab_size
    shown = [int(numbers[i]) if i < len(numbers) else beyond for i in shown]
  return codec_of(vocabulary).decode_visible(shown)
