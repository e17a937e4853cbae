"""Shared by next_sentence and sentence_order: two segments of a document in one masked row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import seqio
import tensorflow as tf

from t5x_style.data import noise, skip_counts, windows
from t5x_style.data.objectives.base import Preprocessor
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.tokenizers import special_tokens
from t5x_style.data.tokenizers.words_and_sentences import WordsAndSentences

SHORTEST = 4  # tokens of the two segments of a row together


@dataclasses.dataclass(frozen=True)
class SentencePairs(MaskedLM):
  """[CLS] A [SEP] B [SEP] with masks; the cut between A and B is at a sentence end.

  token_types are 0 for A with its [CLS] and [SEP], 1 for B with its [SEP]; pair_label is 0 for the
  pair as it is in the text. Documents are cut one by one, so the last row of each is padded.
  """

  name = ""
  how_apart = "always"  # A row is one pair, whose two segments have to see each other.

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    length = self.required_length(
      feature_lengths, "inputs", SHORTEST + 3, "[CLS], two [SEP] and two tokens a side"
    )
    return {"inputs": length, "targets": length}

  def max_targets(self, lengths: Mapping[str, int], architecture: str) -> int:
    return max(1, round(self.mask_rate * (lengths["inputs"] - 3)))

  def arranged(self, documents: tf.data.Dataset) -> tf.data.Dataset:
    """Adds what `segments` needs of other documents, as "other_targets" and "other_ends"."""
    return documents

  def segments(self, chunks: tf.Tensor, row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """Returns (A, its lengths, B, its lengths, labels) for chunks of a document.

    Args:
      chunks: int32 [B, L], consecutive parts of a document.
      row: {"lengths": int32 [B], "split": int32 [B] length of A, "seeds": uint64 [B], ...}.
    """
    raise NotImplementedError

  def preprocessor(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    length = lengths["inputs"] - 3
    cls, sep = (special_tokens.special_id(vocabulary, piece) for piece in ("[CLS]", "[SEP]"))
    corrupt = self.corrupter(vocabulary, self.max_targets(lengths, architecture))
    spelling = WordsAndSentences(vocabulary)

    def find_sentences(document):
      return {**document, "ends": spelling.sentence_ends(document["targets"][None])[0]}

    def cut(document):
      chunks, n = _chunks(document["targets"], length)
      salts = tf.fill(tf.shape(n), noise.salt(document["noise_seed"]))
      return {
        "tokens": chunks,
        "ends": _chunks(document["ends"], length)[0],
        "lengths": n,
        "seeds": noise.window_seeds(chunks, salts),
        skip_counts.KEY: tf.tile(document[skip_counts.KEY][None], [tf.size(n), 1]),
        **{name: value for name, value in document.items() if name.startswith("other_")},
      }

    def pair(row):
      chunks, n, seeds = row["tokens"], row["lengths"], row["seeds"]
      split = _split(n, noise.fold_in(seeds, 10), row["ends"])
      row = {**row, "split": split}
      first, first_n, second, second_n, labels = self.segments(chunks, row)
      tokens, types = _frame(first, first_n, second, second_n, cls, sep, lengths["inputs"])
      features = corrupt(tokens, seeds) | {"token_types": types, "pair_label": labels}
      return {**features, "useful": tf.reduce_any(features["loss_weights"] > 0, axis=1)}

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      usable = skip_counts.usable(documents, SHORTEST)
      # Two at once: more would hold more documents back.
      usable = usable.map(find_sentences, num_parallel_calls=2, deterministic=True)
      chunks = self.arranged(usable).map(cut)
      return windows.corrupted(chunks, pair, keep_raw="keep_raw" in documents.element_spec)

    return preprocess


def shifted(chunks: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
  """Drops the first by[b] tokens of row b: int32 [B, L] -> [B, L], the last token repeated."""
  length = chunks.shape[1]
  place = tf.minimum(tf.range(length)[None, :] + by[:, None], length - 1)
  return tf.gather(chunks, place, batch_dims=1)


def _chunks(tokens: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
  """Cuts tokens [n] into rows [B, length] of lengths [B]; leaves out a rest of less than four."""
  n = tf.size(tokens)
  count = (n + length - 1) // length
  rows = tf.reshape(tf.pad(tokens, [[0, count * length - n]]), [-1, length])
  lengths = tf.minimum(length, n - tf.range(count) * length)
  count -= tf.cast(lengths[-1] < SHORTEST, tf.int32)
  return rows[:count], lengths[:count]


def _split(n: tf.Tensor, seeds: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
  """Draws the length of A, int32 [B]: up to a sentence end, if one has two tokens on both sides."""
  place = tf.range(ends.shape[1])[None, :]
  inside = (place >= 1) & (place < n[:, None] - 2)
  sentence = inside & ends
  eligible = tf.where(tf.reduce_any(sentence, axis=1, keepdims=True), sentence, inside)
  last, _ = noise.choose(seeds, eligible, tf.ones_like(n), 1)
  return last[:, 0] + 1


def _frame(
  first: tf.Tensor,
  first_n: tf.Tensor,
  second: tf.Tensor,
  second_n: tf.Tensor,
  cls: int,
  sep: int,
  length: int,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Writes [CLS] A [SEP] B [SEP]; returns tokens and token types, int32 [B, length] each."""
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
