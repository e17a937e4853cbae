"""Maps the internal ids of t5x_style.data, of which 0 is padding, to the model's, and back.

They differ if a vocabulary of another library numbers its tokens differently. Batches then get
its numbers, and segment ids, since padding can no longer be recognised by its id:

    internal     decoder_target_tokens  [[5, 6, 1, 0]]   decoder_input_tokens  [[0, 5, 6, 0]]
    RoBERTa-like decoder_target_tokens  [[5, 6, 0, 1]]   decoder_input_tokens  [[2, 5, 6, 1]]
    (padding 1, start 2)                decoder_segment_ids    [[1, 1, 1, 0]]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from t5x_style.data import arrays, converters
from t5x_style.data.arrays import Features
from t5x_style.data.tokenizers import token_ids
from t5x_style.data.tokenizers.token_ids import SpecialIds, TokenIds
from t5x_style.data.tokenizers.vocabulary import Vocabulary

if TYPE_CHECKING:
  from t5x_style.data.tensorflow_setup import tf


def converted(batch: Features, ids: TokenIds) -> Features:
  """Converts a batch of model features to the model's ids, where these differ.

  NumPy arrays and tensors give the same result.
  """
  if not ids.renumbered or ids.numbers is None:
    return batch
  special, result = ids.special_ids, dict(batch)
  # Without a padding token use id 0: segment ids mask it.
  pad = np.int32(max(special.pad, 0))
  for side, padded in converters.PADDED_TOKENS.items():
    if padded not in batch:
      continue
    xp = arrays.of(batch[padded])
    if f"{side}_segment_ids" not in batch:
      result[f"{side}_segment_ids"] = xp.cast(batch[padded] > 0, np.int32)
    segments = result[f"{side}_segment_ids"]
    for kind in ("input", "target"):
      name = f"{side}_{kind}_tokens"
      if name in batch:
        numbers = xp.take(ids.numbers, batch[name])
        known = xp.where(batch[name] == 0, np.int32(special.start), numbers)
        result[name] = xp.where(segments > 0, known, pad)
  return result


def renumbers(vocabulary: Vocabulary) -> bool:
  """Returns whether the model's ids differ from the internal ones."""
  external = _external(vocabulary)
  return external is not None and external.renumbered


def special_ids(vocabulary: Vocabulary) -> SpecialIds:
  """Returns the model's ids that decoding needs."""
  if _external(vocabulary) is None:
    return SpecialIds(0, 1 if vocabulary.eos_id is None else vocabulary.eos_id, 0)
  return token_ids.of(vocabulary).special_ids


def vocab_size(vocabulary: Vocabulary) -> int:
  """Returns how many ids the model may get, and so the rows of its embedding."""
  external = _external(vocabulary)
  return vocabulary.vocab_size if external is None else external.model_vocab_size


def token_bytes(vocabulary: Vocabulary) -> np.ndarray | None:
  """Returns the bytes of text of each of the model's ids, int32 [V]; None if tokens drop text."""
  return token_ids.of(vocabulary).codec.token_bytes


def from_model(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
  """Converts the model's ids to the internal ones, int32 of the same shape."""
  external = _external(vocabulary)
  return ids if external is None else external.own_ids(ids)


def to_model(batches: tf.data.Dataset, vocabulary: Vocabulary) -> tf.data.Dataset:
  """Converts batches of model features to the model's ids, where these differ."""
  from t5x_style.data import map_options

  if not renumbers(vocabulary):
    return batches
  ids = token_ids.of(vocabulary)
  convert = map_options.as_written(lambda batch: converted(batch, ids))
  return batches.map(convert, **map_options.IN_ORDER)


def _external(vocabulary: Vocabulary) -> Any:
  """Returns the vocabulary if its tokenizer numbers the tokens, else None."""
  from t5x_style.data.tokenizers.base import ExternalVocabulary  # It imports SeqIO.

  return vocabulary if isinstance(vocabulary, ExternalVocabulary) else None
