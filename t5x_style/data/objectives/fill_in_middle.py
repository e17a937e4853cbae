"""Fill in the middle: a decoder learns to complete between a prefix and a suffix (FIM)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import seqio
import tensorflow as tf

from t5x_style.data import noise, windows
from t5x_style.data.objectives.base import Objective, Preprocessor
from t5x_style.data.tokenizers import special_tokens
from t5x_style.errors import UserError
from t5x_style.ranges import Fraction

_PIECES = ("[PRE]", "[MID]", "[SUF]")


@dataclasses.dataclass(frozen=True)
class FillInMiddle(Objective):
  """Causal language modelling in which some windows are rearranged (Bavarian et al. 2022, sec. 3).

  A window is cut at two points drawn uniformly, between tokens, the ends included, and written as
    PSM   [PRE] prefix [SUF] suffix [MID] middle EOS
    SPM   [PRE] [SUF] suffix [MID] prefix middle EOS
  or left as it is. Loss on every token. A window is one context: attention crosses its documents.

  Attributes:
    rate: share of the windows that is rearranged.
    spm_share: share of these in SPM order; the others are PSM.
  """

  name = "fill_in_middle"
  architectures = ("decoder_only",)

  rate: Fraction = 0.5
  spm_share: Fraction = 0.5

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    why = "three pieces, EOS and two tokens are the least"
    return {"targets": self.total_length(feature_lengths, 6, why)}

  def check(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> None:
    self.check_architecture(architecture)
    for field in ("rate", "spm_share"):
      if not 0 <= getattr(self, field) <= 1:
        raise UserError(
          f"FillInMiddle.{field} = {getattr(self, field)} is no share; set "
          f"fill_in_middle.FillInMiddle.{field} between 0 and 1 in the gin file."
        )
    for piece in _PIECES:
      special_tokens.special_id(vocabulary, piece)

  def preprocessor(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    raw = lengths["targets"] - len(_PIECES) - 1
    pre, mid, suf = (special_tokens.special_id(vocabulary, piece) for piece in _PIECES)
    eos = vocabulary.eos_id

    def rearrange(window):
      tokens, seeds = window["tokens"], window["seeds"]
      n = window["lengths"][:, None]
      rows = tf.shape(tokens)[0]
      start, end = tf.split(
        tf.sort(noise.integers(noise.fold_in(seeds, 0), 2, n + 1), axis=1), 2, axis=1
      )
      draw = noise.uniform(noise.fold_in(seeds, 1), 2)
      moved = draw[:, :1] < self.rate
      spm = draw[:, 1:] < self.spm_share

      def piece(i):
        return tf.fill([rows, 1], i)

      # Both orders are one row with the prefix in two places, of which one is kept.
      place = tf.range(raw)[None, :]
      values = tf.concat(
        [piece(pre), tokens, piece(suf), tokens, piece(mid), tokens, tokens, piece(eos)], axis=1
      )
      prefix, suffix = place < start, (place >= end) & (place < n)
      middle = (place >= start) & (place < end)
      whole = ~moved & (place < n)
      keep = tf.concat(
        [
          moved,
          whole | (moved & ~spm & prefix),
          moved,
          moved & suffix,
          moved,
          moved & spm & prefix,
          moved & middle,
          moved,
        ],
        axis=1,
      )
      row = noise.compact(values, keep, lengths["targets"])
      return {"targets": row, "hidden": moved & middle}

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      return windows.examples(documents, raw, rearrange, eos_id=eos)

    return preprocess
