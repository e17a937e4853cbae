"""Sentence-order prediction: masked tokens, and which of two segments comes first (ALBERT)."""

from __future__ import annotations

import dataclasses

import numpy as np

from t5x_style.data import arrays, noise
from t5x_style.data.arrays import Array, Features
from t5x_style.data.objectives.sentence_pairs import SentencePairs, shifted


@dataclasses.dataclass(frozen=True)
class SentenceOrder(SentencePairs):
  """SOP (Lan et al. 2019, section 3.1): A, B as in the text (label 0) or swapped (label 1)."""

  name = "sentence_order"

  def segments(self, chunks: Array, row: Features) -> tuple[Array, ...]:
    n, split, seeds = row["lengths"], row["split"], row["seeds"]
    xp = arrays.of(chunks)
    swap = noise.uniform(noise.fold_in(seeds, 11), 1)[:, 0] < 0.5
    follows = shifted(chunks, split)
    first = xp.where(swap[:, None], follows, chunks)
    second = xp.where(swap[:, None], chunks, follows)
    first_n, second_n = xp.where(swap, n - split, split), xp.where(swap, split, n - split)
    return first, first_n, second, second_n, xp.cast(swap, np.int32)
