"""Score: the log-probabilities of a text, and what they mean: each method and what it compares."""

from __future__ import annotations

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Method:
  """How texts are scored.

  Attributes:
    name: as `TrainedModel.score(method=...)` takes it.
    meaning: what the sum of the log-probabilities is.
    comparable: what it may be compared with.
    bounds_likelihood: whether the sum is the log-likelihood or a lower bound of it: only then are
      bits per byte defined.
  """

  name: str
  meaning: str
  comparable: str
  bounds_likelihood: bool


_SAME_MODEL = (
  "with other texts under the same model and method only: it is no probability of the text, and "
  "not a likelihood that other models or methods could be ranked against"
)
_LIKELIHOODS = (
  "with log-likelihoods of the same text under any model, in bits per byte where vocabularies "
  "differ"
)

METHODS = {
  method.name: method
  for method in (
    Method(
      "causal",
      "the log-likelihood of the text, or of a target after its text, exact",
      _LIKELIHOODS,
      True,
    ),
    Method(
      "prefix_lm",
      "the log-likelihood of the target after its text, which is read in both directions, exact",
      "with log-likelihoods of the same target after the same text",
      True,
    ),
    Method(
      "encoder_decoder",
      "the log-likelihood of the target that the decoder writes for the encoder's text, exact",
      "with log-likelihoods of the same target for the same text",
      True,
    ),
    Method(
      "enc_dec_prefix",
      "the log-likelihood of the whole text, written where everything is hidden from the encoder; "
      "exact for this input, which training hardly ever shows",
      _LIKELIHOODS,
      True,
    ),
    Method(
      "enc_dec_mask",
      "a pseudo-log-likelihood: each token in turn is hidden from the encoder and written by the "
      "decoder",
      _SAME_MODEL,
      False,
    ),
    Method(
      "pseudo_log_likelihood",
      "a pseudo-log-likelihood: each token in turn is masked and predicted from all others "
      "(Salazar et al. 2020)",
      _SAME_MODEL,
      False,
    ),
    Method(
      "pseudo_log_likelihood_in_words",
      "a pseudo-log-likelihood: each token in turn is masked together with the later tokens of its "
      "word (Kauf and Ivanova 2023)",
      _SAME_MODEL,
      False,
    ),
    Method(
      "diffusion_bound",
      "a lower bound of the log-likelihood (Nie et al. 2025, equation 3)",
      f"{_LIKELIHOODS}, as a bound: the text is at least so likely",
      True,
    ),
  )
}


@dataclasses.dataclass(frozen=True, repr=False)
class Score:
  """The log-probabilities of one text, or of one target given its text.

  Attributes:
    method: how it was scored, and what `total` may be compared with.
    text: what was scored.
    tokens: its tokens as text, [n].
    ids: int32 [n].
    log_probabilities: float32 [n], natural logarithms. Of "diffusion_bound": each token's share of
      the bound.
    standard_error: of `total`, in nats, where it is estimated from random masks; 0.0 where it is
      exact.
    keeps_text: whether the tokens spell the text out, without unknown ones.
  """

  method: Method
  text: str
  tokens: list[str]
  ids: np.ndarray
  log_probabilities: np.ndarray
  standard_error: float = 0.0
  keeps_text: bool = True

  @property
  def total(self) -> float:
    """The sum of the log-probabilities, in nats."""
    return float(self.log_probabilities.sum(dtype=np.float64))

  @property
  def bits_per_byte(self) -> float | None:
    """-total / ln 2 / UTF-8 bytes of the text.

    None for pseudo-log-likelihoods, and where the tokens do not spell the text out.
    """
    if not self.method.bounds_likelihood or not self.keeps_text:
      return None
    return -self.total / math.log(2) / len(self.text.encode())

  def __repr__(self) -> str:
    error = f" +- {self.standard_error:.2f}" if self.standard_error else ""
    return (
      f"Score({self.total:.3f}{error} nats, {len(self.ids)} tokens, {self.method.name}, "
      f"{self.text[:40]!r})"
    )
