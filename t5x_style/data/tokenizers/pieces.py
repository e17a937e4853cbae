"""Which pieces of a vocabulary stand for text."""

from __future__ import annotations

import numpy as np
import seqio

from t5x_style.data.tokenizers import vocabularies


def ordinary_ids(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """int32 [K]: the ids that stand for text; no padding, EOS, UNK, special piece or sentinel."""
  return np.flatnonzero(vocabularies.token_bytes(vocabulary) > 0).astype(np.int32)
