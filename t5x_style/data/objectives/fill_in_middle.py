"""Fill in the middle: a decoder learns to complete between a prefix and a suffix (FIM)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import seqio
import tensorflow as tf

from t5x_style import likelihoods
from t5x_style.data import noise, windows
from t5x_style.data.objectives.base import Objective, Preprocessor
from t5x_style.data.tokenizers import special_tokens
from t5x_style.errors import UserError
from t5x_style.setting_types import Fraction

_PIECES = ("[PRE]", "[MID]", "[SUF]")


@dataclasses.dataclass(frozen=True)
class FillInMiddle(Objective):
  """Causal language modelling in which some windows are rearranged (Bavarian et al. 2022, sec. 3).

  Two points between tokens, its ends included, are drawn uniformly to cut a window, which becomes
    PSM   [PRE] prefix [SUF] suffix [MID] middle EOS
    SPM   [PRE] [SUF] suffix [MID] prefix middle EOS
  or stays as it is. All tokens carry loss. With cross_documents = False windows of one document
  are rearranged (section 3.1, document-level), and those that stay as they are end with EOS, too.

  Attributes:
    rate: share of the windows that are rearranged.
    spm_share: share of these in SPM order; the others are in PSM order.
  """

  name = "fill_in_middle"
  architectures = ("decoder_only",)
  likelihood = likelihoods.BOUND  # A rearranged window determines the text.
  how_apart = "examples"

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
      tokens, seeds, n = window["tokens"], window["seeds"], window["lengths"][:, None]
      ends = tf.sort(noise.integers(noise.fold_in(seeds, 0), 2, n + 1), axis=1)
      start, end = tf.split(ends, 2, axis=1)
      draw = noise.uniform(noise.fold_in(seeds, 1), 2)
      moved, spm = draw[:, :1] < self.rate, draw[:, 1:] < self.spm_share
      place = tf.range(raw)[None, :]
      prefix, suffix = place < start, (place >= end) & (place < n)
      middle = (place >= start) & (place < end)
      whole = ~moved & (place < n)
      # (value, whether it is kept): one row for both orders, with the prefix in two places.
      parts = [
        (pre, moved),
        (tokens, whole | (moved & ~spm & prefix)),
        (suf, moved),
        (tokens, moved & suffix),
        (mid, moved),
        (tokens, moved & spm & prefix),
        (tokens, moved & middle),
        (eos, moved if self.cross_documents else tf.ones_like(moved)),
      ]
      values = [v if tf.is_tensor(v) else tf.fill(tf.shape(moved), v) for v, _ in parts]
      keep = tf.concat([kept for _, kept in parts], axis=1)
      row = noise.compact(tf.concat(values, axis=1), keep, lengths["targets"])
      return {"targets": row, "hidden": moved & middle}

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      return windows.examples(documents, raw, rearrange, eos_id=eos, joined=self.cross_documents)

    return preprocess
