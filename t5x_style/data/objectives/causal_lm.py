"""Causal language modelling: predicts every token from those before it (GPT-2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import seqio
import tensorflow as tf

from t5x_style import likelihoods
from t5x_style.data import windows
from t5x_style.data.objectives.base import Objective, Preprocessor


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

  def preprocessor(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    def example(window):
      features = {"targets": window["tokens"]}
      if not self.cross_documents:
        ids = windows.segment_ids(window["tokens"], vocabulary.eos_id)
        features["targets_segment_ids"] = ids
      return features

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      return windows.examples(documents, lengths["targets"], example, eos_id=vocabulary.eos_id)

    return preprocess
