"""Text infilling: one [MASK] replaces a span of any length; the target is the text (BART)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import seqio
import tensorflow as tf
from annotated_types import Interval

from t5x_style.data import noise, windows
from t5x_style.data.objectives.base import Objective, Preprocessor
from t5x_style.data.tokenizers import special_tokens
from t5x_style.data.tokenizers.words_and_sentences import WordsAndSentences
from t5x_style.setting_types import OpenFraction


@dataclasses.dataclass(frozen=True)
class TextInfilling(Objective):
  """BART's corruption (Lewis et al. 2019, section 2.2).

  Span lengths are drawn from a Poisson distribution until they cover the noise; the last one is cut
  to the exact sum. Each span becomes one [MASK]; a span of length zero inserts one. Inputs end with
  EOS; targets are the window and EOS.

  Attributes:
    noise_density: share of the tokens that is hidden; the count is exact in each window.
    mean_span: mean of the Poisson distribution, in tokens.
    permute_sentences: whether the sentences (or lines) of the inputs are shuffled first.
  """

  name = "text_infilling"
  architectures = ("encoder_decoder",)
  how_apart = "examples"

  noise_density: OpenFraction = 0.3
  mean_span: Annotated[float, Interval(gt=0, lt=64)] = 3.0
  permute_sentences: bool = False

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    inputs = self.required_length(feature_lengths, "inputs", 4, "three tokens and EOS")
    targets = feature_lengths.get("targets", inputs)
    self.required_length({"targets": targets}, "targets", 4, "three tokens and EOS")
    return {"inputs": inputs, "targets": targets}

  def check(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> None:
    self.check_architecture(architecture)
    self.check_number("noise_density", 0, 1)
    self.check_number("mean_span", 0, 64)
    special_tokens.special_id(vocabulary, "[MASK]")

  def preprocessor(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    # There are at most as many masks as hidden tokens, so inputs are not longer than targets.
    raw = min(lengths["inputs"], lengths["targets"]) - 1
    eos = vocabulary.eos_id
    mask_id = special_tokens.special_id(vocabulary, "[MASK]")
    spelling = WordsAndSentences(vocabulary) if self.permute_sentences else None

    def corrupt(window):
      tokens, n, seeds = window["tokens"], window["lengths"], window["seeds"]
      text = tokens
      hidden, insertions = self.draw(n, seeds, raw)
      hidden_in_window = hidden
      if spelling:
        order = sentence_order(n, noise.fold_in(seeds, 3), spelling.sentence_ends(tokens))
        text = tf.gather(tokens, order, batch_dims=1)
        hidden_in_window = tf.gather(hidden, tf.argsort(order, axis=1), batch_dims=1)
      return {
        "inputs": infill(text, n, hidden, insertions, mask_id, eos, lengths["inputs"]),
        "targets": windows.with_eos(tokens, n, eos, lengths["targets"]),
        "hidden": hidden_in_window,
      }

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      return windows.examples(documents, raw, corrupt, eos_id=eos, joined=self.cross_documents)

    return preprocess

  def draw(self, lengths: tf.Tensor, seeds: tf.Tensor, raw: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the hidden tokens and the places where a [MASK] is inserted, bool [B, raw] each.

    Args:
      lengths: int32 [B], tokens of the windows, at most `raw`.
      seeds: uint64 [B].
      raw: static length of the windows.
    """
    total = tf.round(tf.cast(lengths, tf.float64) * self.noise_density)
    total = tf.minimum(tf.maximum(tf.cast(total, tf.int32), 1), lengths - 1)
    most = max(1, round(raw * self.noise_density))
    drawn = poisson(noise.fold_in(seeds, 0), most, self.mean_span)
    edges = tf.minimum(tf.cumsum(drawn, axis=1), total[:, None])
    # In the rare draws that do not reach the sum the last span takes the rest.
    edges = tf.concat([edges[:, :-1], total[:, None]], axis=1)
    before = tf.pad(edges, [[0, 0], [1, 0]])[:, :-1]
    grows = edges > before
    spans = tf.reduce_sum(tf.cast(grows, tf.int32), axis=1)
    # There are only so many gaps for spans: the last span takes surplus ones.
    limit = tf.minimum(spans, lengths - total + 1)
    compacted = noise.compact(edges, grows, most)
    real = tf.range(most)[None, :] < limit[:, None]
    compacted = tf.where(tf.range(1, most + 1)[None, :] < limit[:, None], compacted, total[:, None])
    # In another order: otherwise the span that was cut would always be the last of the window.
    sizes = compacted - tf.pad(compacted, [[0, 0], [1, 0]])[:, :-1]
    key = tf.where(real, noise.uniform(noise.fold_in(seeds, 4), most), 2.0)
    sizes = tf.gather(sizes, tf.argsort(key, axis=1), batch_dims=1)
    shuffled = tf.pad(tf.cumsum(sizes, axis=1), [[0, 0], [1, 0]])
    hidden = noise.place_spans(noise.fold_in(seeds, 1), shuffled, lengths, total, limit, length=raw)
    empty = ~grows & (before < total[:, None])
    zero = tf.reduce_sum(tf.cast(empty, tf.int32), axis=1)
    zero = tf.minimum(zero, tf.minimum(total - limit, lengths - total))
    eligible = ~hidden & (tf.range(raw)[None, :] < lengths[:, None])
    places, _ = noise.choose(noise.fold_in(seeds, 2), eligible, zero, most)
    return hidden, noise.positions_to_mask(places, raw)


def poisson(seeds: tf.Tensor, n: int, mean: float) -> tf.Tensor:
  """Draws from a Poisson distribution, by its inverse: uint64 [B] seeds -> int32 [B, n]."""
  top = int(mean + 12 * math.sqrt(mean) + 12)
  terms = [math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(top)]
  cumulative = tf.constant(np.cumsum(terms).astype(np.float32))
  flat = tf.reshape(noise.uniform(seeds, n), [-1])
  return tf.reshape(tf.searchsorted(cumulative, flat, side="right"), [-1, n])


def infill(
  tokens: tf.Tensor,
  n: tf.Tensor,
  hidden: tf.Tensor,
  insertions: tf.Tensor,
  mask_id: int,
  eos: int,
  length: int,
) -> tf.Tensor:
  """Writes one [MASK] for each hidden span, one before each token of `insertions`, and EOS.

  tokens a b c d e   hidden 0 1 1 0 0   insertions 0 0 0 0 1
  a [MASK] d [MASK] e EOS
  """
  rows, raw = tf.shape(tokens)[0], tokens.shape[1]
  real = tf.range(raw)[None, :] < n[:, None]
  hidden &= real
  starts = hidden & ~tf.pad(hidden, [[0, 0], [1, 0]])[:, :-1]
  masks = tf.fill([rows, raw], mask_id)
  values = tf.reshape(tf.stack([masks, tokens], axis=2), [rows, 2 * raw])
  keep = tf.reshape(tf.stack([starts | insertions, real & ~hidden], axis=2), [rows, 2 * raw])
  values = tf.concat([values, tf.fill([rows, 1], eos)], axis=1)
  keep = tf.concat([keep, tf.fill([rows, 1], True)], axis=1)
  return noise.compact(values, keep, length)


def sentence_order(n: tf.Tensor, seeds: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
  """Returns the positions of each row in an order of shuffled sentences, int32 [B, L].

  Args:
    n: int32 [B], tokens of each row.
    seeds: uint64 [B].
    ends: bool [B, L], the last token of each sentence.
  """
  length = ends.shape[1]
  real = tf.range(length)[None, :] < n[:, None]
  sentence = tf.cumsum(tf.cast(ends, tf.int32), axis=1, exclusive=True)
  key = tf.gather(noise.uniform(seeds, length), sentence, batch_dims=1)
  return tf.argsort(tf.where(real, key, 2.0), axis=1, stable=True)
