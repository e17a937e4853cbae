"""Sentence-order prediction: masked tokens, and which of two segments comes first (ALBERT)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from t5x_style.data import noise
from t5x_style.data.objectives.sentence_pairs import SentencePairs, shifted


@dataclasses.dataclass(frozen=True)
class SentenceOrder(SentencePairs):
  """SOP (Lan et al. 2019, section 3.1): A, B as in the text (label 0) or swapped (label 1)."""

  name = "sentence_order"

  def segments(self, chunks: tf.Tensor, row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    n, split, seeds = row["lengths"], row["split"], row["seeds"]
    swap = noise.uniform(noise.fold_in(seeds, 11), 1)[:, 0] < 0.5
    follows = shifted(chunks, split)
    first = tf.where(swap[:, None], follows, chunks)
    second = tf.where(swap[:, None], chunks, follows)
    first_n, second_n = tf.where(swap, n - split, split), tf.where(swap, split, n - split)
    return first, first_n, second, second_n, tf.cast(swap, tf.int32)
