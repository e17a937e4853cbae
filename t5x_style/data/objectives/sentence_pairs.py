"""Shared by next_sentence and sentence_order: two segments of a document in one masked row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from t5x_style.data import arrays, noise, skip_counts
from t5x_style.data.arrays import Array, Features
from t5x_style.data.objectives.base import ExamplesOfDocument, Preprocessor
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.pieces import Cutting
from t5x_style.data.tokenizers import token_ids
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.tokenizers.vocabulary import Vocabulary
from t5x_style.data.tokenizers.words_and_sentences import WordsAndSentences

if TYPE_CHECKING:
  from t5x_style.data.tensorflow_setup import tf

SHORTEST = 4  # tokens of the two segments of a row together


class _Steps(NamedTuple):
  """How the examples of a document are made, one after the other."""

  find_sentences: Callable[[Features], Features]  # adds "ends"
  cut: Callable[[Features], Features]  # into chunks [B, L]
  pair: Callable[[Features], Features]  # chunks to features


@dataclasses.dataclass(frozen=True)
class SentencePairs(MaskedLM):
  """[CLS] A [SEP] B [SEP] with masks; the cut between A and B is at a sentence end.

  token_types are 0 for A with its [CLS] and [SEP], 1 for B with its [SEP]; pair_label is 0 for the
  pair as it is in the text. Documents are cut one by one, so the last row of each is padded.
  """

  name = ""
  how_apart = "always"  # A row is one pair, whose two segments have to see each other.
  reads_documents: ClassVar[bool] = True

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

  def segments(self, chunks: Array, row: Features) -> tuple[Array, ...]:
    """Returns (A, its lengths, B, its lengths, labels) for chunks of a document.

    Args:
      chunks: int32 [B, L], consecutive parts of a document.
      row: {"lengths": int32 [B], "split": int32 [B] length of A, "seeds": uint64 [B], ...}.
    """
    raise NotImplementedError

  def examples_in(self, sizes: np.ndarray, lengths: Mapping[str, int]) -> np.ndarray:
    """Returns how many examples documents of this many tokens give: integers [n] -> [n]."""
    length = lengths["inputs"] - 3
    return sizes // length + (sizes % length >= SHORTEST)

  def pieces(self, lengths: Mapping[str, int], architecture: str) -> Cutting:
    return Cutting("chunks", lengths["inputs"] - 3, SHORTEST)

  def examples_of_document(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> ExamplesOfDocument:
    """Returns document -> all its examples, features [B, ...].

    next_sentence needs "other_targets", the tokens of another document; [0] if there is none. Rows
    where the feature "useful", bool [B], is false have nothing to predict.
    """
    steps = self._steps(ids, lengths)
    return lambda document: steps.pair(steps.cut(steps.find_sentences(document)))

  def _steps(self, ids: TokenIds, lengths: Mapping[str, int]) -> _Steps:
    length = lengths["inputs"] - 3
    cls, sep = ids.special_id("[CLS]"), ids.special_id("[SEP]")
    corrupt = self.corrupter(ids, self.max_targets(lengths, "encoder_only"))
    spelling = WordsAndSentences(ids)

    def find_sentences(document):
      ends = {
        name.replace("targets", "ends"): spelling.sentence_ends(document[name][None])[0]
        for name in ("targets", "other_targets")
        if name in document
      }
      return {**document, **ends}

    def cut(document):
      chunks, n = _chunks(document["targets"], length)
      salts = arrays.of(n).cast(n * 0, np.int64) + noise.salt(document["noise_seed"])
      return {
        "tokens": chunks,
        "ends": _chunks(document["ends"], length)[0],
        "lengths": n,
        "seeds": noise.window_seeds(chunks, salts),
        **{name: value for name, value in document.items() if name.startswith("other_")},
      }

    def pair(row):
      chunks, n, seeds = row["tokens"], row["lengths"], row["seeds"]
      row = {**row, "split": _split(n, noise.fold_in(seeds, 10), row["ends"])}
      first, first_n, second, second_n, labels = self.segments(chunks, row)
      tokens, types = _frame(first, first_n, second, second_n, cls, sep, lengths["inputs"])
      features = corrupt(tokens, seeds) | {"token_types": types, "pair_label": labels}
      return {**features, "useful": arrays.of(tokens).any(features["loss_weights"] > 0)}

    return _Steps(find_sentences, cut, pair)

  def preprocessor(
    self, vocabulary: Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    from t5x_style.data import window_stream
    from t5x_style.data.tensorflow_setup import tf

    steps = self._steps(token_ids.of(vocabulary), lengths)

    def cut(document):
      chunks, counts = steps.cut(document), document[skip_counts.KEY]
      counts = tf.tile(counts[None], [tf.size(chunks["lengths"]), 1])
      return {**chunks, skip_counts.KEY: counts}

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      usable = skip_counts.usable(documents, SHORTEST)
      # Two at once: more would hold more documents back.
      usable = usable.map(steps.find_sentences, num_parallel_calls=2, deterministic=True)
      chunks = self.arranged(usable).map(cut)
      keep_raw = "keep_raw" in documents.element_spec
      return window_stream.corrupted(chunks, steps.pair, keep_raw=keep_raw)

    return preprocess


def shifted(chunks: Array, by: Array) -> Array:
  """Drops the first by[b] tokens of row b: int32 [B, L] -> [B, L], the last token repeated."""
  xp, length = arrays.of(chunks), chunks.shape[1]
  return xp.take_along(chunks, xp.minimum(arrays.places(length) + by[:, None], length - 1))


def _chunks(tokens: Array, length: int) -> tuple[Array, Array]:
  """Cuts tokens [n] into rows [B, length] of lengths [B]; leaves out a rest of less than four."""
  xp = arrays.of(tokens)
  n = xp.size(tokens)
  count = (n + length - 1) // length
  rows = xp.in_rows(xp.pad(tokens, 0, count * length - n), length)
  lengths = xp.minimum(length, n - xp.arange(count) * length)
  count -= xp.cast(lengths[-1] < SHORTEST, np.int32)
  return rows[:count], lengths[:count]


def _split(n: Array, seeds: Array, ends: Array) -> Array:
  """Draws the length of A, int32 [B]: up to a sentence end, if one has two tokens on both sides."""
  xp, place = arrays.of(n), arrays.places(ends.shape[1])
  inside = (place >= 1) & (place < n[:, None] - 2)
  sentence = inside & ends
  eligible = xp.where(xp.any(sentence)[:, None], sentence, inside)
  last, _ = noise.choose(seeds, eligible, xp.ones_like(n), 1)
  return last[:, 0] + 1


def _frame(
  first: Array,
  first_n: Array,
  second: Array,
  second_n: Array,
  cls: int,
  sep: int,
  length: int,
) -> tuple[Array, Array]:
  """Writes [CLS] A [SEP] B [SEP]; returns tokens and token types, int32 [B, length] each."""
  xp, width = arrays.of(first), first.shape[1]
  cls_, sep_, always = (xp.filled(first, 1, value) for value in (cls, sep, True))
  place = arrays.places(width)
  values = xp.concat([cls_, first, sep_, second, sep_])
  keep = xp.concat([always, place < first_n[:, None], always, place < second_n[:, None], always])
  types = xp.concat([xp.filled(first, width + 2, 0), xp.filled(first, width + 1, 1)])
  return noise.compact(values, keep, length), noise.compact(types, keep, length)
