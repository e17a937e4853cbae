"""Pairs of segments for a pooled head: which document, which order (NSP of BERT, SOP of ALBERT)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import seqio
import tensorflow as tf

from t5x_style.data import noise, pieces, skipping, vocabularies
from t5x_style.data.masked_lm import MaskedLM
from t5x_style.data.objective import Preprocessor

_SHORTEST = 4  # tokens of a pair: two a side


@dataclasses.dataclass(frozen=True)
class _SentencePairs(MaskedLM):
  """[CLS] A [SEP] B [SEP] with masks, A and B cut at a sentence end inside one document.

  token_types are 0 for A with its [CLS] and [SEP], 1 for B with its own; pair_label is 0 for the
  pair as it stands in the text. Documents are cut one by one, so the last row of each is padded.
  """

  name = ""

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    length = self.required_length(
      feature_lengths, "inputs", _SHORTEST + 3, "[CLS], two [SEP] and two tokens a side"
    )
    return {"inputs": length, "targets": length}

  def max_targets(self, lengths: Mapping[str, int], architecture: str) -> int:
    return max(1, round(self.mask_rate * (lengths["inputs"] - 3)))

  def segments(self, chunks: tf.Tensor, row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """(A, its lengths, B, its lengths, labels) of the chunks of a document; see `preprocessor`."""
    raise NotImplementedError

  def preprocessor(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    length = lengths["inputs"] - 3
    cls, sep = (vocabularies.special_id(vocabulary, piece) for piece in ("[CLS]", "[SEP]"))
    corrupt = self.corrupter(vocabulary, self.max_targets(lengths, architecture))
    ends = pieces.sentence_ends(vocabulary)

    def cut(document):
      chunks, n = _chunks(document["targets"], length)
      salts = tf.fill(tf.shape(n), noise.salt(document["noise_seed"]))
      return {
        "tokens": chunks,
        "lengths": n,
        "seeds": noise.window_seeds(chunks, salts),
        "other": document["other"],
        "counts": tf.tile(document["counts"][None], [tf.size(n), 1]),
      }

    def pair(row):
      chunks, n, seeds = row["tokens"], row["lengths"], row["seeds"]
      split = _split(chunks, n, noise.fold_in(seeds, 10), ends)
      row = {**row, "split": split}
      first, first_n, second, second_n, labels = self.segments(chunks, row)
      tokens, types = _frame(first, first_n, second, second_n, cls, sep, lengths["inputs"])
      features = corrupt(tokens, seeds) | {"token_types": types, "pair_label": labels}
      return {**features, "useful": tf.reduce_any(features["loss_weights"] > 0, axis=1)}

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      chunks = _with_other(skipping.usable(documents, _SHORTEST)).map(cut)
      return skipping.examples(chunks, pair, keep_raw="keep_raw" in documents.element_spec)

    return preprocess


@dataclasses.dataclass(frozen=True)
class NextSentence(_SentencePairs):
  """NSP (Devlin et al. 2018, section 3.1): B follows A (label 0) or is of another document (1)."""

  name = "next_sentence"

  def segments(self, chunks: tf.Tensor, row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    n, split, seeds, other = row["lengths"], row["split"], row["seeds"], row["other"]
    length = chunks.shape[1]
    available = tf.size(other)
    swap = (noise.uniform(noise.fold_in(seeds, 11), 1)[:, 0] < 0.5) & (available >= 2)
    place = tf.range(length)[None, :]
    # A stretch of the other document, as long as what it replaces where there is so much.
    strange_n = tf.minimum(n - split, available)
    start = noise.integers(noise.fold_in(seeds, 12), 1, (available - strange_n + 1)[:, None])
    where = tf.minimum(start + place, tf.maximum(available - 1, 0))
    strange = tf.gather(tf.concat([other, [0]], axis=0), where)
    follows = _shifted(chunks, split)
    second = tf.where(swap[:, None], strange, follows)
    return chunks, split, second, tf.where(swap, strange_n, n - split), tf.cast(swap, tf.int32)


@dataclasses.dataclass(frozen=True)
class SentenceOrder(_SentencePairs):
  """SOP (Lan et al. 2019, section 3.1): A before B as in the text (label 0) or swapped (1)."""

  name = "sentence_order"

  def segments(self, chunks: tf.Tensor, row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    n, split, seeds = row["lengths"], row["split"], row["seeds"]
    swap = noise.uniform(noise.fold_in(seeds, 11), 1)[:, 0] < 0.5
    follows = _shifted(chunks, split)
    first = tf.where(swap[:, None], follows, chunks)
    second = tf.where(swap[:, None], chunks, follows)
    first_n, second_n = tf.where(swap, n - split, split), tf.where(swap, split, n - split)
    return first, first_n, second, second_n, tf.cast(swap, tf.int32)


def _with_other(documents: tf.data.Dataset) -> tf.data.Dataset:
  """Adds "other": the tokens of the document before; the first one comes without."""

  def remember(before, document):
    return document["targets"], {**document, "other": before}

  return documents.scan(tf.zeros([0], tf.int32), remember)


def _chunks(tokens: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
  """int32 [n] -> ([B, length], lengths [B]); a rest of fewer than four tokens is left out."""
  n = tf.size(tokens)
  count = (n + length - 1) // length
  rows = tf.reshape(tf.pad(tokens, [[0, count * length - n]]), [-1, length])
  lengths = tf.minimum(length, n - tf.range(count) * length)
  count -= tf.cast(lengths[-1] < _SHORTEST, tf.int32)
  return rows[:count], lengths[:count]


def _split(chunks: tf.Tensor, n: tf.Tensor, seeds: tf.Tensor, ends: np.ndarray) -> tf.Tensor:
  """int32 [B]: the length of A, up to a sentence end with two tokens on either side, if any."""
  place = tf.range(chunks.shape[1])[None, :]
  inside = (place >= 1) & (place < n[:, None] - 2)
  sentence = inside & tf.gather(tf.constant(ends), chunks)
  eligible = tf.where(tf.reduce_any(sentence, axis=1, keepdims=True), sentence, inside)
  last, _ = noise.choose(seeds, eligible, tf.ones_like(n), 1)
  return last[:, 0] + 1


def _shifted(chunks: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
  """Row b from position by[b] on."""
  length = chunks.shape[1]
  place = tf.minimum(tf.range(length)[None, :] + by[:, None], length - 1)
  return tf.gather(chunks, place, batch_dims=1)


def _frame(
  first: tf.Tensor,
  first_n: tf.Tensor,
  second: tf.Tensor,
  second_n: tf.Tensor,
  cls: int,
  sep: int,
  length: int,
) -> tuple[tf.Tensor, tf.Tensor]:
  """[CLS] A [SEP] B [SEP] as tokens and token types, int32 [B, length] each."""
  rows, width = tf.shape(first)[0], first.shape[1]
  one = tf.ones([rows, 1], tf.int32)
  always = tf.fill([rows, 1], True)
  place = tf.range(width)[None, :]
  values = tf.concat([one * cls, first, one * sep, second, one * sep], axis=1)
  keep = tf.concat(
    [always, place < first_n[:, None], always, place < second_n[:, None], always], axis=1
  )
  types = tf.concat(
    [tf.zeros([rows, width + 2], tf.int32), tf.ones([rows, width + 1], tf.int32)], 1
  )
  return noise.compact(values, keep, length), noise.compact(types, keep, length)
