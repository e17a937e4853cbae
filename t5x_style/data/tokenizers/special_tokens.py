"""Special tokens and sentinels: the ids of a vocabulary that stand for no text."""

from __future__ import annotations

import numpy as np

from t5x_style.data.tokenizers import token_ids
from t5x_style.data.tokenizers.vocabulary import Vocabulary


def special_id(vocabulary: Vocabulary, token: str) -> int:
  """Returns the id of a special token such as "[MASK]".

  Raises:
    UserError: the vocabulary has no such special token.
  """
  return token_ids.of(vocabulary).special_id(token)


def sentinel_ids(vocabulary: Vocabulary) -> np.ndarray:
  """Returns the ids of all sentinels in order, int32 [extra_ids]: [8319, 8318, ...]."""
  return vocabulary.vocab_size - 1 - np.arange(vocabulary.extra_ids, dtype=np.int32)


def marks(vocabulary: Vocabulary) -> dict[int, str]:
  """Returns {id: how it is shown} for the ids that stand for no text; padding is shown as ""."""
  return token_ids.of(vocabulary).marks()
