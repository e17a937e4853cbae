"""Special tokens and sentinels: the ids of a SeqIO vocabulary that stand for no text."""

from __future__ import annotations

import numpy as np
import seqio

from t5x_style.data.tokenizers.base import ExternalVocabulary, codec_of


def special_id(vocabulary: seqio.Vocabulary, token: str) -> int:
  """Returns the id of a special token such as "[MASK]".

  The model has to declare it special: an ordinary piece of that name would also occur in texts.

  Raises:
    UserError: the vocabulary has no such special token.
  """
  number = codec_of(vocabulary).special_id(token)
  return int(vocabulary.own_ids([number])[0]) if _numbers_apart(vocabulary) else number


def sentinel_ids(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """Returns the ids of all sentinels in order, int32 [extra_ids]: [8319, 8318, ...]."""
  return vocabulary.vocab_size - 1 - np.arange(vocabulary.extra_ids, dtype=np.int32)


def marks(vocabulary: seqio.Vocabulary) -> dict[int, str]:
  """Returns {id: how it is shown} for the ids that stand for no text; padding is shown as ""."""
  found = codec_of(vocabulary).marks
  if not _numbers_apart(vocabulary):
    return dict(found)
  own = vocabulary.own_ids([*found]).tolist()
  return {0: ""} | dict(zip(own, found.values(), strict=True))


def _numbers_apart(vocabulary: seqio.Vocabulary) -> bool:
  """Returns whether the codec's ids may be others than the vocabulary's."""
  return isinstance(vocabulary, ExternalVocabulary)
