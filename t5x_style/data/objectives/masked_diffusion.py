"""Masked diffusion: hides a random share of the tokens, from none to all (LLaDA)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from t5x_style import likelihoods
from t5x_style.data import arrays, noise, windows
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.windows import CorruptWindow
from t5x_style.setting_types import OpenFraction


@dataclasses.dataclass(frozen=True)
class MaskedDiffusion(Objective):
  """Draws t for a window, hides its tokens with probability t, weights their loss 1/t.

  See Nie et al. 2025, section 2.1. The weights of a window sum to its length on average, so the
  loss divided by the sum of the weights estimates the bound on the negative log-likelihood per
  token (equation 3).

  Attributes:
    least: t is uniform in (least, 1], so that no weight exceeds 1 / least.
  """

  name = "masked_diffusion"
  architectures = ("encoder_only",)
  likelihood = likelihoods.BOUND
  how_apart = "segments"

  least: OpenFraction = 0.001

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    length = self.required_length(feature_lengths, "inputs", 2, "two tokens are the least")
    return {"inputs": length, "targets": length}

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    self.check_architecture(architecture)
    self.check_number("least", 0, 1)
    ids.special_id("[MASK]")

  def window_length(self, lengths: Mapping[str, int], architecture: str) -> int:
    return lengths["inputs"]

  def corrupt_window(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> CorruptWindow:
    length, mask = lengths["inputs"], ids.special_id("[MASK]")

    def corrupt(window):
      tokens, seeds = window["tokens"], window["seeds"]
      xp = arrays.of(tokens)
      t = 1 - (1 - self.least) * noise.uniform(noise.fold_in(seeds, 0), 1)
      hidden = (noise.uniform(noise.fold_in(seeds, 1), length) < t) & (tokens > 0)
      features = {
        "inputs": xp.where(hidden, mask, tokens),
        "targets": tokens,
        "loss_weights": xp.where(hidden, 1 / t, np.float32(0)),
        "hidden": hidden,
      }
      if not self.cross_documents:
        features["inputs_segment_ids"] = windows.segment_ids(tokens, ids.eos_id)
      return features

    return corrupt
