"""Maps the internal ids of t5x_style.data, of which 0 is padding, to the model's, and back.

They differ if a vocabulary of another library numbers its tokens differently. Batches then get
its numbers, and segment ids, since padding can no longer be recognised by its id:

    internal     decoder_target_tokens  [[5, 6, 1, 0]]   decoder_input_tokens  [[0, 5, 6, 0]]
    RoBERTa-like decoder_target_tokens  [[5, 6, 0, 1]]   decoder_input_tokens  [[2, 5, 6, 1]]
    (padding 1, start 2)                decoder_segment_ids    [[1, 1, 1, 0]]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import seqio
import tensorflow as tf

from t5x_style.data import converters, map_options
from t5x_style.data.tokenizers.base import ExternalVocabulary, codec_of

Features = dict[str, tf.Tensor]


class SpecialIds(NamedTuple):
  """The model's ids of padding and of the end and the start of a sequence."""

  pad: int  # -1 if the vocabulary has none
  eos: int
  start: int


def renumbers(vocabulary: seqio.Vocabulary) -> bool:
  """Returns whether the model's ids differ from the internal ones."""
  return isinstance(vocabulary, ExternalVocabulary) and vocabulary.renumbered


def special_ids(vocabulary: seqio.Vocabulary) -> SpecialIds:
  """Returns the model's ids that decoding needs."""
  if not isinstance(vocabulary, ExternalVocabulary):
    return SpecialIds(0, 1 if vocabulary.eos_id is None else vocabulary.eos_id, 0)
  numbers = vocabulary.model_ids
  return SpecialIds(int(numbers[0]), int(numbers[vocabulary.eos_id]), vocabulary.start_id)


def vocab_size(vocabulary: seqio.Vocabulary) -> int:
  """Returns how many ids the model may get, and so the rows of its embedding."""
  if isinstance(vocabulary, ExternalVocabulary):
    return vocabulary.model_vocab_size
  return vocabulary.vocab_size


def token_bytes(vocabulary: seqio.Vocabulary) -> np.ndarray | None:
  """`token_text.token_bytes` of the model's ids; None if tokens do not keep the text."""
  return codec_of(vocabulary).token_bytes


def from_model(ids: np.ndarray, vocabulary: seqio.Vocabulary) -> np.ndarray:
  """Converts the model's ids to the internal ones."""
  if isinstance(vocabulary, ExternalVocabulary):
    return vocabulary.own_ids(ids)
  return ids


@map_options.as_written
def to_model(batches: tf.data.Dataset, vocabulary: seqio.Vocabulary) -> tf.data.Dataset:
  """Converts batches of model features to the model's ids, where these differ."""
  if not renumbers(vocabulary):
    return batches
  special = special_ids(vocabulary)
  numbers = tf.constant(vocabulary.model_ids)
  # Without a padding token use id 0: segment ids mask it.
  pad = max(special.pad, 0)

  def convert(batch: Features) -> Features:
    result = dict(batch)
    for side, padded in converters.PADDED_TOKENS.items():
      if padded not in batch:
        continue
      tokens = batch[padded]
      segments = batch.get(f"{side}_segment_ids", tf.cast(tokens > 0, tf.int32))
      result[f"{side}_segment_ids"] = segments
      for kind in ("input", "target"):
        name = f"{side}_{kind}_tokens"
        if name in batch:
          known = tf.where(batch[name] == 0, special.start, tf.gather(numbers, batch[name]))
          result[name] = tf.where(segments > 0, known, pad)
    return result

  return batches.map(convert, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
