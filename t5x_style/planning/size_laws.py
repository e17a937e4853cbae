"""The constants with which a budget of FLOPs becomes a size, a batch, a number of steps and a rate.

The held-out loss of a model of N parameters after D tokens is taken to be E + A / N^a + B / D^b
(Hoffmann et al. 2022, section 3.3), with A, B, a and b of Besiroglu et al. 2024 ("Chinchilla
Scaling: A replication attempt", arXiv 2404.10102), of which only A / B decides about the size. The
batch and the learning rate were set by small runs of two budgets for each objective, which this
command repeats:

    python -m launch.benchmark dial --records=FILE

These runs are too short to tell A from B: size is published, batch and rate are measured.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

BASE_EMB_DIM = 128  # the width of the models whose rates are in the table
BASE_LAYERS = 2  # of each of their stacks
_SIZE_WEIGHT = 482.01 / 2085.43  # A / B
_OF_SIZE, _OF_TOKENS = 0.3478, 0.3658  # the exponents a and b
_BATCH_EXPONENT = 0.5
_RATE_EXPONENT = -0.25  # of the tokens; Bjorck et al. 2024 (arXiv 2409.19913) have -0.32
_MOST_USEFUL_EPOCHS = 15.39  # R* of Muennighoff et al. 2023 (arXiv 2305.16264), section 5


class Law(NamedTuple):
  """What pilot runs of an objective have shown.

  Attributes:
    batch: tokens of a batch for the square root of the tokens of the run.
    rate: the best peak learning rate of AdamW for a model of the base size.
    tokens, flops: of the run with this rate.
  """

  batch: float
  rate: float
  tokens: float
  flops: float

  def batch_tokens(self, tokens: float) -> float:
    """Returns the tokens of a batch of a run, from those of the run.

    The largest batch that costs nothing grows with the tokens, not with the size of the model
    (Zhang et al. 2024, "How Does Critical Batch Size Scale in Pre-training?").
    """
    return self.batch * tokens**_BATCH_EXPONENT

  def peak_rate(self, tokens: float) -> float:
    """Returns the peak learning rate of a run for the base size, from its tokens."""
    return self.rate * (tokens / self.tokens) ** _RATE_EXPONENT


def reducible_loss(parameters: float, tokens: float) -> float:
  """Returns what a larger model or more text could still gain, in units of B."""
  return _SIZE_WEIGHT * parameters**-_OF_SIZE + tokens**-_OF_TOKENS


def worth(tokens: float, text: float | None) -> float:
  """Returns how much new text the tokens of a run are worth.

  Args:
    tokens: that the run reads; text: those of the corpus, which it repeats; None: not known.
  """
  if text is None or tokens <= text:
    return tokens
  repeats = tokens / text - 1
  return text * (1 + _MOST_USEFUL_EPOCHS * (1 - math.exp(-repeats / _MOST_USEFUL_EPOCHS)))


LAWS: Mapping[str, Law] = {
  "causal_lm": Law(0.75, 0.0074, 7.8e4, 2e11),
  "masked_lm": Law(0.75, 0.0046, 8.3e4, 2e11),
  "span_corruption": Law(0.75, 0.0026, 7.4e4, 2e11),
}
_OF_ARCHITECTURE = {
  "decoder_only": "causal_lm",
  "encoder_only": "masked_lm",
  "encoder_decoder": "span_corruption",
}


def nearest(architecture: str, objective: str | None) -> str:
  """Returns the objective of the table that is the nearest to one: itself, or by architecture."""
  return (
    objective if objective is not None and objective in LAWS else _OF_ARCHITECTURE[architecture]
  )
