"""What the pieces of a vocabulary are: text or special, parts of words, ends of sentences."""

from __future__ import annotations

import numpy as np
import seqio
import tensorflow as tf

from t5x_style.data import vocabularies


def ordinary_ids(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """int32 [K]: the ids that stand for text; no padding, EOS, UNK, special piece or sentinel."""
  return np.flatnonzero(vocabularies.token_bytes(vocabulary) > 0).astype(np.int32)


def texts(vocabulary: seqio.Vocabulary) -> list[str]:
  """The text of each id, "" for ids that stand for none (sentinels, special pieces)."""
  result = [""] * vocabulary.vocab_size
  for i in ordinary_ids(vocabulary).tolist():
    if isinstance(vocabulary, vocabularies.SelfDescribing):
      result[i] = vocabulary.piece_bytes[i].decode(errors="replace")
    elif isinstance(vocabulary, seqio.SentencePieceVocabulary):
      result[i] = vocabulary.tokenizer.IdToPiece(i).replace("\u2581", " ")
    else:
      result[i] = vocabulary.decode([i])
  return result


def word_parts(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """Bool [2, V]: the pieces that can continue a word, and those that a word can go on from."""
  parts = [[_is_word(text[:1]), _is_word(text[-1:])] for text in texts(vocabulary)]
  return np.array(parts, bool).T


def _is_word(character: str) -> bool:
  return character.isalnum() or character == "_"


def word_ids(tokens: tf.Tensor, parts: np.ndarray) -> tf.Tensor:
  """Numbers the words of int32 [B, L] from 0; a punctuation or space piece is a word alone.

  Args:
    tokens: int32 [B, L].
    parts: of `word_parts`.
  """
  begins, ends = (tf.gather(tf.constant(column), tokens) for column in parts)
  goes_on = begins[:, 1:] & ends[:, :-1]
  starts = tf.pad(~goes_on, [[0, 0], [1, 0]], constant_values=False)
  return tf.cumsum(tf.cast(starts, tf.int32), axis=1)


def sentence_ends(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """Bool [V]: the pieces a sentence, or a line of code, ends with; EOS is one of them."""
  ends = np.array([text.rstrip(" ")[-1:] in (".", "!", "?", "\n") for text in texts(vocabulary)])
  ends &= np.array([bool(text.strip(" ")) for text in texts(vocabulary)])
  newline = vocabulary.encode("\n")
  ends[newline[-1:]] = True  # a byte piece where the model has no piece for the line end
  ends[vocabulary.eos_id] = True
  return ends
