"""Masked language modelling: hides tokens and predicts them from both sides (BERT, RoBERTa)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from t5x_style import likelihoods
from t5x_style.data import arrays, noise, windows
from t5x_style.data.arrays import Array, Features
from t5x_style.data.objectives.base import Apart, Objective
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.tokenizers.words_and_sentences import WordsAndSentences
from t5x_style.data.windows import CorruptWindow
from t5x_style.errors import UserError
from t5x_style.setting_types import Fraction, OpenFraction

CorruptTokens = Callable[[Array, Array], Features]


def mask_tokens(
  tokens: Array,
  chosen: Array,
  seeds: Array,
  *,
  mask_id: int,
  replacements: np.ndarray,
  mask_share: float,
  random_share: float,
) -> Array:
  """Corrupts the chosen tokens in BERT's three ways (Devlin et al. 2018, section 3.1).

  Args:
    tokens: int32 [B, L].
    chosen: bool [B, L].
    seeds: uint64 [B].
    mask_id: replaces `mask_share` of the chosen tokens.
    replacements: int32 [K] ids; a uniform draw from them replaces `random_share` of the chosen
      tokens. The others are kept.

  Returns:
    int32 [B, L].
  """
  xp, length = arrays.of(tokens), tokens.shape[1]
  draw = noise.uniform(noise.fold_in(seeds, 1), length)
  other = noise.integers(noise.fold_in(seeds, 2), length, len(replacements))
  other = xp.take(replacements, other)
  masked = xp.where(
    draw < mask_share, mask_id, xp.where(draw < mask_share + random_share, other, tokens)
  )
  return xp.where(chosen, masked, tokens)


@dataclasses.dataclass(frozen=True)
class MaskedLM(Objective):
  """[CLS] window [SEP], of which an exact share of the tokens is chosen; only those carry loss.

  Each epoch draws other masks (RoBERTa's dynamic masking; Liu et al. 2019, section 4.1).

  Attributes:
    mask_rate: the share of the maskable tokens that is chosen, rounded to an exact count in each
      window. Special tokens, EOS and padding are never chosen.
    mask_share, random_share: the shares of the chosen tokens that become [MASK] and another token.
    whole_word: chooses all tokens of a word together; only the last word may be chosen in part, to
      reach the exact count.
    cross_documents: True attends over the whole window (RoBERTa's FULL-SENTENCES, section 4.2);
      False keeps attention inside each document of the window, through segment ids.
  """

  name = "masked_lm"
  architectures = ("encoder_only",)
  likelihood = likelihoods.PSEUDO
  how_apart: ClassVar[Apart | None] = "segments"

  mask_rate: OpenFraction = 0.15
  mask_share: Fraction = 0.8
  random_share: Fraction = 0.1
  whole_word: bool = False
  cross_documents: bool = dataclasses.field(default=True, kw_only=True)

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    length = self.required_length(
      feature_lengths, "inputs", 4, "[CLS], [SEP] and two tokens are the shortest window"
    )
    return {"inputs": length, "targets": length}

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    self.check_architecture(architecture)
    self.check_number("mask_rate", 0, 1)
    if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
      raise UserError(
        f"MaskedLM.mask_share = {self.mask_share} and random_share = {self.random_share} are not "
        "shares of one whole; set masked_lm.MaskedLM.mask_share and .random_share, e.g. .8 and .1."
      )
    for piece in ("[CLS]", "[SEP]", "[MASK]"):
      ids.special_id(piece)

  def max_targets(self, lengths: Mapping[str, int], architecture: str) -> int:
    return max(1, round(self.mask_rate * (lengths["inputs"] - 2)))

  def window_length(self, lengths: Mapping[str, int], architecture: str) -> int:
    return lengths["inputs"] - 2

  def corrupt_window(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> CorruptWindow:
    cls, sep = ids.special_id("[CLS]"), ids.special_id("[SEP]")
    corrupt = self.corrupter(ids, self.max_targets(lengths, architecture))

    def example(window):
      xp = arrays.of(window["tokens"])
      features = corrupt(enclose(window["tokens"], window["lengths"], cls, sep), window["seeds"])
      if not self.cross_documents:
        documents = windows.segment_ids(window["tokens"], ids.eos_id)
        # [CLS] belongs to the first document, [SEP] to the last.
        last = xp.max(documents)[:, None]
        features["inputs_segment_ids"] = enclose(documents, window["lengths"], 1, last)
      chosen = features["loss_weights"] > 0
      # A window that has only special tokens has nothing to predict.
      return {**features, "hidden": chosen[:, 1:-1], "useful": xp.any(chosen)}

    return example

  def corrupter(self, ids: TokenIds, bound: int) -> CorruptTokens:
    """Returns (tokens int32 [B, L] with special tokens, seeds uint64 [B]) -> features of examples.

    Args:
      ids: of the vocabulary.
      bound: the most chosen tokens of a row.
    """
    mask = ids.special_id("[MASK]")
    ordinary = ids.ordinary_ids()
    maskable_ids = np.zeros(ids.vocab_size, bool)
    maskable_ids[ordinary] = True
    if ids.unk_id is not None:
      maskable_ids[ids.unk_id] = True
    spelling = WordsAndSentences(ids) if self.whole_word else None

    def corrupt(tokens: Array, seeds: Array) -> Features:
      xp = arrays.of(tokens)
      maskable = xp.take(maskable_ids, tokens)
      count = exact_count(maskable, self.mask_rate, bound)
      groups = spelling.word_ids(tokens) if spelling else None
      positions, _ = noise.choose(noise.fold_in(seeds, 0), maskable, count, bound, groups)
      chosen = noise.positions_to_mask(positions, tokens.shape[1])
      inputs = mask_tokens(
        tokens,
        chosen,
        seeds,
        mask_id=mask,
        replacements=ordinary,
        mask_share=self.mask_share,
        random_share=self.random_share,
      )
      return {"inputs": inputs, "targets": tokens, "loss_weights": xp.cast(chosen, np.float32)}

    return corrupt


def exact_count(maskable: Array, rate: float, bound: int) -> Array:
  """Returns `rate` times the maskable tokens of each row, rounded, at least 1 if any: int32 [B]."""
  xp = arrays.of(maskable)
  available = xp.sum(xp.cast(maskable, np.int32))
  count = xp.cast(xp.round(xp.cast(available, np.float64) * rate), np.int32)
  return xp.minimum(xp.minimum(xp.maximum(count, 1), available), bound)


def enclose(values: Array, lengths: Array, first: int, last: Array | int) -> Array:
  """Puts `first` before and `last` after the `lengths` [B] tokens of rows: [B, L] -> [B, L + 2].

  `last` is the same for all rows, or [B, 1].
  """
  xp = arrays.of(values)
  framed = xp.concat([xp.filled(values, 1, first), xp.pad(values, 0, 1)])
  at_end = arrays.places(values.shape[1] + 2) == (lengths + 1)[:, None]
  return xp.where(at_end, last, framed)
