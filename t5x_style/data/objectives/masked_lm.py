"""Masked language modelling: hides tokens and predicts them from both sides (BERT, RoBERTa)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import seqio
import tensorflow as tf

from t5x_style import likelihoods
from t5x_style.data import noise, windows
from t5x_style.data.objectives.base import Apart, Objective, Preprocessor
from t5x_style.data.tokenizers import special_tokens, token_text
from t5x_style.data.tokenizers.words_and_sentences import WordsAndSentences
from t5x_style.errors import UserError
from t5x_style.setting_types import Fraction, OpenFraction

CorruptTokens = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]


def mask_tokens(
  tokens: tf.Tensor,
  chosen: tf.Tensor,
  seeds: tf.Tensor,
  *,
  mask_id: int,
  replacements: np.ndarray,
  mask_share: float,
  random_share: float,
) -> tf.Tensor:
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
  length = tokens.shape[1]
  draw = noise.uniform(noise.fold_in(seeds, 1), length)
  other = noise.integers(noise.fold_in(seeds, 2), length, len(replacements))
  other = tf.gather(tf.constant(replacements), other)
  masked = tf.where(
    draw < mask_share, mask_id, tf.where(draw < mask_share + random_share, other, tokens)
  )
  return tf.where(chosen, masked, tokens)


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

  def check(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> None:
    self.check_architecture(architecture)
    self.check_number("mask_rate", 0, 1)
    if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
      raise UserError(
        f"MaskedLM.mask_share = {self.mask_share} and random_share = {self.random_share} are not "
        "shares of one whole; set masked_lm.MaskedLM.mask_share and .random_share, e.g. .8 and .1."
      )
    for piece in ("[CLS]", "[SEP]", "[MASK]"):
      special_tokens.special_id(vocabulary, piece)

  def max_targets(self, lengths: Mapping[str, int], architecture: str) -> int:
    return max(1, round(self.mask_rate * (lengths["inputs"] - 2)))

  def preprocessor(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    length = lengths["inputs"] - 2
    cls, sep = (special_tokens.special_id(vocabulary, p) for p in ("[CLS]", "[SEP]"))
    corrupt = self.corrupter(vocabulary, self.max_targets(lengths, architecture))

    def example(window):
      tokens = enclose(window["tokens"], window["lengths"], cls, sep)
      features = corrupt(tokens, window["seeds"])
      if not self.cross_documents:
        documents = windows.segment_ids(window["tokens"], vocabulary.eos_id)
        # [CLS] belongs to the first document, [SEP] to the last.
        last = tf.reduce_max(documents, axis=1)
        features["inputs_segment_ids"] = enclose(documents, window["lengths"], 1, last)
      chosen = features["loss_weights"] > 0
      # A window that has only special tokens has nothing to predict.
      return {**features, "hidden": chosen[:, 1:-1], "useful": tf.reduce_any(chosen, axis=1)}

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      return windows.examples(documents, length, example, eos_id=vocabulary.eos_id)

    return preprocess

  def corrupter(self, vocabulary: seqio.Vocabulary, bound: int) -> CorruptTokens:
    """Returns (tokens int32 [B, L] with special tokens, seeds uint64 [B]) -> features of examples.

    Args:
      vocabulary: of the tokens.
      bound: the most chosen tokens of a row.
    """
    mask = special_tokens.special_id(vocabulary, "[MASK]")
    ordinary = token_text.ordinary_ids(vocabulary)
    maskable_ids = np.zeros(vocabulary.vocab_size, bool)
    maskable_ids[ordinary] = True
    if vocabulary.unk_id is not None:
      maskable_ids[vocabulary.unk_id] = True
    spelling = WordsAndSentences(vocabulary) if self.whole_word else None

    def corrupt(tokens: tf.Tensor, seeds: tf.Tensor) -> dict[str, tf.Tensor]:
      maskable = tf.gather(tf.constant(maskable_ids), tokens)
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
      return {"inputs": inputs, "targets": tokens, "loss_weights": tf.cast(chosen, tf.float32)}

    return corrupt


def exact_count(maskable: tf.Tensor, rate: float, bound: int) -> tf.Tensor:
  """Returns `rate` times the maskable tokens of each row, rounded, at least 1 if any: int32 [B]."""
  available = tf.reduce_sum(tf.cast(maskable, tf.int32), axis=1)
  count = tf.cast(tf.round(tf.cast(available, tf.float64) * rate), tf.int32)
  return tf.minimum(tf.minimum(tf.maximum(count, 1), available), bound)


def enclose(values: tf.Tensor, lengths: tf.Tensor, first: int, last: tf.Tensor | int) -> tf.Tensor:
  """Puts `first` before and `last` after the `lengths` [B] tokens of rows: [B, L] -> [B, L + 2]."""
  rows, width = tf.shape(values)[0], values.shape[1]
  framed = tf.concat([tf.fill([rows, 1], first), tf.pad(values, [[0, 0], [0, 1]])], axis=1)
  at_end = tf.range(width + 2)[None, :] == (lengths + 1)[:, None]
  last = tf.broadcast_to(tf.reshape(tf.convert_to_tensor(last), [-1, 1]), [rows, width + 2])
  return tf.where(at_end, last, framed)
