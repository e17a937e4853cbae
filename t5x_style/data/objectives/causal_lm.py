"""Causal language modelling: predicts every token from those before it (GPT-2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from t5x_style import likelihoods
from t5x_style.data import windows
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.windows import CorruptWindow


@dataclasses.dataclass(frozen=True)
class CausalLM(Objective):
  """Next-token prediction on full windows; all tokens carry loss, EOS included.

  Attributes:
    cross_documents: False keeps attention inside each document of a window (segment ids, positions
      from 0 in each). True is GPT's concat-and-split (Radford et al. 2019): a window is one text in
      which only EOS marks the end of a document, and needs no attention mask but the causal one.
  """

  name = "causal_lm"
  architectures = ("decoder_only",)
  likelihood = likelihoods.EXACT
  how_apart = "segments"

  cross_documents: bool = dataclasses.field(default=False, kw_only=True)

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    length = self.total_length(
      feature_lengths, 2, "a window of one token has nothing to predict it from"
    )
    return {"targets": length}

  def window_length(self, lengths: Mapping[str, int], architecture: str) -> int:
    return lengths["targets"]

  def corrupt_window(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> CorruptWindow:
    def corrupt(window):
      features = {"targets": window["tokens"]}
      if not self.cross_documents:
        features["targets_segment_ids"] = windows.segment_ids(window["tokens"], ids.eos_id)
      return features

    return corrupt
