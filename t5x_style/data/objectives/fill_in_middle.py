"""Fill in the middle: a decoder learns to complete between a prefix and a suffix (FIM)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from t5x_style import likelihoods
from t5x_style.data import arrays, noise
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.windows import CorruptWindow
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

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    self.check_architecture(architecture)
    for field in ("rate", "spm_share"):
      if not 0 <= getattr(self, field) <= 1:
        raise UserError(
          f"FillInMiddle.{field} = {getattr(self, field)} is no share; set "
          f"fill_in_middle.FillInMiddle.{field} between 0 and 1 in the gin file."
        )
    for piece in _PIECES:
      ids.special_id(piece)

  def window_length(self, lengths: Mapping[str, int], architecture: str) -> int:
    return lengths["targets"] - len(_PIECES) - 1

  def corrupt_window(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> CorruptWindow:
    raw, eos = self.window_length(lengths, architecture), ids.eos_id
    pre, mid, suf = map(ids.special_id, _PIECES)

    def rearrange(window):
      tokens, seeds, n = window["tokens"], window["seeds"], window["lengths"][:, None]
      xp, place = arrays.of(tokens), arrays.places(raw)
      ends = xp.sort(noise.integers(noise.fold_in(seeds, 0), 2, n + 1))
      start, end = ends[:, :1], ends[:, 1:]
      draw = noise.uniform(noise.fold_in(seeds, 1), 2)
      moved, spm = draw[:, :1] < self.rate, draw[:, 1:] < self.spm_share
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
        (eos, moved if self.cross_documents else xp.ones_like(moved)),
      ]
      values = [xp.filled(tokens, 1, v) if isinstance(v, int) else v for v, _ in parts]
      keep = xp.concat([kept for _, kept in parts])
      row = noise.compact(xp.concat(values), keep, lengths["targets"])
      return {"targets": row, "hidden": moved & middle}

    return rearrange

  def most_tokens(
    self,
    tokens: np.ndarray,
    targets: np.ndarray | None,
    lengths: Mapping[str, int],
    architecture: str,
  ) -> dict[str, np.ndarray]:
    return {"targets": tokens + len(_PIECES) + 1}
