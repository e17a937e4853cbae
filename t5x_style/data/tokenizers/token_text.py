"""The text that the token ids of a vocabulary stand for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from t5x_style.data.tokenizers import token_ids
from t5x_style.data.tokenizers.vocabulary import Vocabulary


def id_bytes(vocabulary: Vocabulary) -> list[bytes]:
  """Returns the bytes that each id is shown as, [V]."""
  return token_ids.of(vocabulary).visible_bytes()


def token_bytes(vocabulary: Vocabulary) -> np.ndarray:
  """Returns how many UTF-8 bytes of text each id stands for, int32 [V]; see TextCodec."""
  return token_ids.of(vocabulary).text_bytes()


def ordinary_ids(vocabulary: Vocabulary) -> np.ndarray:
  """Returns the ids that stand for text, int32 [K]: not padding, EOS, UNK, special or sentinel."""
  return token_ids.of(vocabulary).ordinary_ids()


def decode_visible(vocabulary: Vocabulary, ids: Iterable[int]) -> str:
  """Returns all the text of `ids` but padding; see TextCodec.decode_visible.

  SeqIO's decode stops at EOS, drops special tokens, and drops sentinels or shows \u2047 for them.
  """
  return token_ids.of(vocabulary).decode_visible(ids)
