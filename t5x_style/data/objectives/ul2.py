"""UL2: a mixture of denoisers, each with a mode token in front (Tay et al. 2022)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from t5x_style.data.objectives.base import Objective
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.span_corruption import MeanSpan, SpanCorruption, SpanLengths
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.errors import UserError
from t5x_style.setting_types import NonNegativeFloat, OpenFraction, PositiveInt, Text


@dataclasses.dataclass(frozen=True)
class UL2(Objective):
  """Mixture of denoisers (section 3.1): R hides short spans, X long or many, S is a prefix LM.

  Attributes:
    r_denoisers, x_denoisers: (mean span in tokens, noise density) of each.
    s_suffix_share: mean share of the window that the S-denoiser predicts; None leaves it out.
    rates: of R, S and X, in any unit, split evenly among the denoisers of each. None draws all
      denoisers equally often, as the paper does.
    modes: special tokens of R, S and X in front of the inputs. The published UL2 20B has [NLU],
      [S2S], [NLG].
    span_lengths: "composition", "normal" or "uniform"; see SpanCorruption.
    budgets: own lengths for the denoisers of a letter, e.g. {"X": {"inputs": 256}}.
  """

  name = "ul2"
  architectures = ("encoder_decoder", "decoder_only")
  how_apart = "examples"

  r_denoisers: Sequence[tuple[MeanSpan, OpenFraction]] = ((3, 0.15), (8, 0.15))
  x_denoisers: Sequence[tuple[MeanSpan, OpenFraction]] = ((3, 0.5), (8, 0.5), (64, 0.15), (64, 0.5))
  s_suffix_share: OpenFraction | None = 0.25
  rates: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] | None = None
  modes: tuple[Text | None, Text | None, Text | None] = ("[R]", "[S]", "[X]")
  span_lengths: SpanLengths = "composition"
  budgets: Mapping[str, Mapping[str, PositiveInt]] = dataclasses.field(default_factory=dict)

  def components(self) -> tuple[tuple[str, Objective, float], ...]:
    return self._mixture().components()

  def _mixture(self) -> Mixture:
    r_mode, s_mode, x_mode = self.modes
    groups: list[list[tuple[str, Objective]]] = [
      [self._spans("R", r_mode, *denoiser) for denoiser in self.r_denoisers],
      [],
      [self._spans("X", x_mode, *denoiser) for denoiser in self.x_denoisers],
    ]
    if self.s_suffix_share is not None:
      groups[1] = [
        (
          "S",
          PrefixLM(
            suffix_share=self.s_suffix_share,
            mode=s_mode,
            budget=self._budget("S"),
            cross_documents=self.cross_documents,
          ),
        )
      ]
    shares = self.rates or [len(group) for group in groups]
    parts = [
      (name, objective, share / len(group))
      for group, share in zip(groups, shares, strict=True)
      for name, objective in group
      if share > 0
    ]
    if not parts:
      raise UserError(
        f"UL2.rates = {self.rates} leaves no denoiser; set ul2.UL2.rates to three numbers, of R, S "
        "and X, of which one with a denoiser is positive."
      )
    names, objectives, rates = zip(*parts, strict=True)
    return Mixture(objectives=objectives, rates=rates, names=names)

  def _budget(self, letter: str) -> Mapping[str, int] | None:
    unknown = set(self.budgets) - set("RSX")
    if unknown:
      raise UserError(
        f"UL2.budgets = {dict(self.budgets)} names {sorted(unknown)[0]!r}; its denoisers are "
        '"R", "S" and "X", e.g. {"X": {"inputs": 256}}.'
      )
    return self.budgets.get(letter)

  def _spans(
    self, letter: str, mode: str | None, mean_span: float, density: float
  ) -> tuple[str, Objective]:
    denoiser = SpanCorruption(
      noise_density=density,
      mean_span=mean_span,
      span_lengths=self.span_lengths,
      mode=mode,
      budget=self._budget(letter),
      cross_documents=self.cross_documents,
    )
    return f"{letter}_{mean_span:g}_{100 * density:g}", denoiser

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    return self._mixture().lengths(feature_lengths, architecture)

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    self.check_architecture(architecture)
    self._mixture().check(ids, lengths, architecture)


@dataclasses.dataclass(frozen=True)
class UL2Short(UL2):
  """Three denoisers that draw the mean span for every window: R from 3-8, S 1-3, X 12-64 tokens.

  S hides short spans here; there is no prefix language modelling.

  Attributes:
    rates: of R, S and X.
    modes, span_lengths, budgets: as in UL2.
  """

  name = "ul2_short"

  rates: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] | None = (0.5, 0.25, 0.25)

  def _mixture(self) -> Mixture:
    spans = (("R", 3, 8, 0.15), ("S", 1, 3, 0.15), ("X", 12, 64, 0.5))
    objectives = [
      SpanCorruption(
        noise_density=density,
        mean_span=shortest,
        mean_span_to=longest,
        span_lengths=self.span_lengths,
        mode=mode,
        budget=self._budget(letter),
        cross_documents=self.cross_documents,
      )
      for (letter, shortest, longest, density), mode in zip(spans, self.modes, strict=True)
    ]
    return Mixture(objectives=objectives, rates=self.rates or (1, 1, 1), names=("R", "S", "X"))
