"""Span corruption: a sentinel replaces each hidden span, and the spans are the targets (T5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval

from t5x_style.data import arrays, converters, noise, windows
from t5x_style.data.arrays import Array, Features
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.windows import CorruptWindow
from t5x_style.errors import UserError
from t5x_style.setting_types import OpenFraction, Text
from t5x_style.span_lengths import DenoiserLengths, lengths_for_inputs, lengths_for_total

MeanSpan = Annotated[float, Interval(ge=1, lt=2**31)]  # tokens
SpanLengths = Literal["composition", "normal", "uniform"]


def counts(lengths: Array, noise_density: float, mean_span: float | Array) -> tuple[Array, Array]:
  """Returns (noise tokens, spans) of windows of int32 [B] lengths, as `lengths_of_window` does."""
  xp = arrays.of(lengths)
  hidden = xp.round(xp.cast(lengths, np.float64) * noise_density)
  hidden = xp.minimum(xp.maximum(xp.cast(hidden, np.int32), 1), lengths - 1)
  spans = xp.cast(xp.round(xp.cast(hidden, np.float64) / mean_span), np.int32)
  spans = xp.minimum(xp.maximum(spans, 1), xp.minimum(hidden, lengths - hidden + 1))
  return hidden, spans


def replace_spans(
  tokens: Array,
  lengths: Array,
  mask: Array,
  *,
  vocab_size: int,
  eos_id: int,
  inputs_length: int,
  targets_length: int,
  prefix: tuple[int, ...] = (),
) -> Features:
  """Writes corrupted windows as inputs and targets; <0> is the first sentinel.

      tokens   a b c d e f   mask 0 1 1 0 0 1
      inputs   a <0> d e <1> EOS
      targets  <0> b c <1> f EOS

  Args:
    tokens: int32 [B, L].
    lengths: int32 [B].
    mask: bool [B, L], the hidden tokens.
    vocab_size: sentinel k is the id vocab_size - 1 - k.
    eos_id: ends inputs and targets.
    inputs_length, targets_length: static lengths.
    prefix: ids in front of the inputs (a mode token).

  Returns:
    {"inputs": int32 [B, inputs_length], "targets": int32 [B, targets_length]}.
  """
  xp = arrays.of(tokens)
  real = arrays.places(tokens.shape[1]) < lengths[:, None]
  mask = mask & real
  starts = mask & ~xp.pad(mask, 1, 0)[:, :-1]
  sentinels = vocab_size - xp.cumsum(xp.cast(starts, np.int32))
  eos, always = xp.filled(tokens, 1, eos_id), xp.filled(tokens, 1, True)

  front = windows.repeated(prefix, tokens)
  values = xp.concat([front, xp.where(starts, sentinels, tokens), eos])
  keep = xp.concat([front >= 0, starts | (real & ~mask), always])
  inputs = noise.compact(values, keep, inputs_length)

  values = xp.concat([xp.interleave(sentinels, tokens), eos])
  keep = xp.concat([xp.interleave(starts, mask), always])
  return {"inputs": inputs, "targets": noise.compact(values, keep, targets_length)}


@dataclasses.dataclass(frozen=True)
class SpanCorruption(Objective):
  """T5's objective (Raffel et al. 2019, section 3.3): hides 15 % of the tokens, in spans of 3.

  A decoder-only model reads the inputs as a prefix, in both directions, and predicts the targets.

  Attributes:
    noise_density: share of the tokens that is hidden; the count is exact in each window.
    mean_span: mean length of a hidden span in tokens; the number of spans is exact too.
    mean_span_to: where set, each window draws its mean from mean_span, ..., mean_span_to.
    span_lengths: "composition" (T5's), or "normal" or "uniform" around the mean (UL2's words).
    t5_mask: False draws uniformly from all masks. True draws T5's masks, which never hide the first
      token and always hide the last one, to reproduce published runs.
    mode: special token in front of the inputs, which names the denoiser (UL2), or None.
  """

  name = "span_corruption"
  architectures = ("encoder_decoder", "decoder_only")
  how_apart = "examples"

  noise_density: OpenFraction = 0.15
  mean_span: MeanSpan = 3.0
  mean_span_to: MeanSpan | None = None
  span_lengths: SpanLengths = "composition"
  t5_mask: bool = False
  mode: Text | None = None

  def denoiser(self, lengths: Mapping[str, int], architecture: str) -> DenoiserLengths:
    """Returns the lengths of the window that fills the features, for the shortest mean span."""
    room = int(self.mode is not None)
    if architecture == "decoder_only":
      return lengths_for_total(lengths["targets"] - room, self.noise_density, self.mean_span)
    return lengths_for_inputs(lengths["inputs"] - room, self.noise_density, self.mean_span)

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    self._check_numbers()
    why = "a window needs a few tokens beside its sentinels and EOS"
    if architecture == "decoder_only":
      return {"targets": self.total_length(feature_lengths, 8, why)}
    inputs = self.required_length(feature_lengths, "inputs", 8, why)
    needed = self.denoiser({"inputs": inputs}, architecture).targets
    why = (
      f"inputs {inputs} at noise_density {self.noise_density} and mean_span {self.mean_span} come "
      f"with {needed} target tokens"
    )
    return {"inputs": inputs, "targets": self.targets_length(feature_lengths, needed, why)}

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    self.check_architecture(architecture)
    self._check_numbers()
    check_sentinels(self.name, self.denoiser(lengths, architecture), lengths, ids)
    if self.mode is not None:
      ids.special_id(self.mode)

  def window_length(self, lengths: Mapping[str, int], architecture: str) -> int:
    return self.denoiser(lengths, architecture).raw

  def corrupt_window(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> CorruptWindow:
    plan = self.denoiser(lengths, architecture)
    mode = () if self.mode is None else (ids.special_id(self.mode),)
    joined = architecture == "decoder_only"

    def corrupt(window):
      mask = self.draw(window["lengths"], window["seeds"], plan)
      example = replace_spans(
        window["tokens"],
        window["lengths"],
        mask,
        vocab_size=ids.vocab_size,
        eos_id=ids.eos_id,
        inputs_length=plan.inputs + len(mode) if joined else lengths["inputs"],
        targets_length=plan.targets if joined else lengths["targets"],
        prefix=mode,
      )
      if joined:
        example = converters.join_prefix(example, lengths["targets"])
      return {**example, "hidden": mask}

    return corrupt

  def most_tokens(
    self,
    tokens: np.ndarray,
    targets: np.ndarray | None,
    lengths: Mapping[str, int],
    architecture: str,
  ) -> dict[str, np.ndarray]:
    hidden, spans = counts(tokens.astype(np.int32), self.noise_density, self.mean_span)
    spans = np.minimum(spans, self.denoiser(lengths, architecture).spans)
    read = tokens - hidden + spans + 1 + int(self.mode is not None)
    predicted = hidden + spans + 1
    if architecture == "decoder_only":
      return {"targets": read + predicted}
    return {"inputs": read, "targets": predicted}

  def draw(self, lengths: Array, seeds: Array, plan: DenoiserLengths) -> Array:
    """Draws the noise mask, bool [B, plan.raw], of windows of int32 [B] `lengths`."""
    xp, mean_span = arrays.of(lengths), self.mean_span
    if self.mean_span_to is not None:
      choices = int(self.mean_span_to) - int(self.mean_span) + 1
      drawn = noise.integers(noise.fold_in(seeds, 2), 1, choices)[:, 0]
      mean_span = self.mean_span + xp.cast(drawn, np.float64)
    hidden, spans = counts(lengths, self.noise_density, mean_span)
    if self.t5_mask:
      spans = xp.minimum(spans, lengths - hidden)
    return noise.span_mask(
      seeds,
      lengths,
      hidden,
      xp.minimum(spans, plan.spans),
      length=plan.raw,
      max_noise=plan.noise,
      max_spans=plan.spans,
      span_lengths=self.span_lengths,
      t5_ends=self.t5_mask,
    )

  def _check_numbers(self) -> None:
    self.check_number("noise_density", 0, 1)
    where = "in the gin file (span_corruption.SpanCorruption)"
    if self.mean_span < 1:
      raise UserError(f"mean_span = {self.mean_span} is below one token; set it {where}.")
    if self.mean_span_to is not None and self.mean_span_to < self.mean_span:
      raise UserError(
        f"mean_span_to = {self.mean_span_to} is below mean_span = {self.mean_span}; set it {where}."
      )
    if self.span_lengths not in ("composition", "normal", "uniform"):
      raise UserError(
        f"span_lengths = {self.span_lengths!r} is none of 'composition', 'normal', 'uniform'; "
        f"set it {where}."
      )


def check_sentinels(
  name: str, plan: DenoiserLengths, lengths: Mapping[str, int], ids: TokenIds
) -> None:
  """Raises UserError if a window has more spans than the vocabulary has sentinels."""
  if plan.spans > ids.sentinels:
    raise UserError(
      f"{name} at TASK_FEATURE_LENGTHS = {dict(lengths)} hides {plan.spans} spans in a window "
      f"of {plan.raw} tokens, but the vocabulary has {ids.sentinels} sentinels. Set "
      f"extra_ids of VOCABULARY to at least {plan.spans}, or shorten the inputs, raise mean_span "
      "or lower noise_density."
    )
