"""The metrics of a step: sums on the device, and the means that are reported."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from t5x_style.training.guard import Guard

Array = jax.Array | np.ndarray


class MetricFormat(NamedTuple):
  """How people read a metric."""

  spec: str  # format of the number
  phrase: str  # of a line; {} is the number
  title: str  # of a table's column


# The metrics of `means` that are shown, in this order; metrics.jsonl has all of them.
SHOWN = {
  "loss": MetricFormat(".3f", "loss {}", "nats/token"),
  "bits_per_byte": MetricFormat(".3f", "{} bits/byte", "bits/byte"),
  "accuracy": MetricFormat(".1%", "accuracy {}", "accuracy"),
  "exact_match": MetricFormat(".1%", "exact match {}", "exact match"),
  "pair_accuracy": MetricFormat(".1%", "pairs {}", "pairs right"),
}


# Of all other metrics the lowest value is the best.
HIGHER_IS_BETTER = ("accuracy", "exact_match", "pair_accuracy")


class Sums(NamedTuple):
  """Sums over a batch; None if not defined for this data.

  They add up over microbatches and steps, and do not depend on the normalizing factor.
  """

  loss: Array  # nats, weighted, without z-loss and pairs
  z_loss: Array  # nats, weighted
  correct: Array  # the weight of the target tokens predicted right
  weight: Array  # of the target tokens
  tokens: Array  # that the model read and that are not padding
  bytes: Array | None = None  # of target text
  component_loss: Array | None = None  # [components of a mixture], nats, weighted
  component_weight: Array | None = None
  component_correct: Array | None = None  # where details were requested
  component_bytes: Array | None = None
  pair_loss: Array | None = None  # nats, of sentence pairs
  pair_correct: Array | None = None
  pair_weight: Array | None = None
  sequences_right: Array | None = None  # of which every target was predicted right
  sequences: Array | None = None
  # Of a model with experts, over its layers with experts and the tokens that these read.
  routed: Array | None = None  # tokens
  balance_loss: Array | None = None  # of each token's layer and microbatch, not weighted
  router_z_loss: Array | None = None  # log(Z)^2 of the routers, not weighted
  dropped: Array | None = None  # the share of each token's choices that found no room
  busiest: Array | None = None  # the load of the busiest expert over the mean load


class Metrics(NamedTuple):
  """What a training step reports."""

  sums: Sums
  grad_norm: Array  # of the gradient before it is clipped
  learning_rate: Array
  updated: Array  # False if the guard skipped the step
  verdict: Array  # of the guard, a Verdict
  guard: Guard  # after the step

  @property
  def loss(self) -> float:
    """Nats per target token of this step, on the host."""
    return float(self.sums.loss) / max(float(self.sums.weight), 1e-9)


def add(totals: Sums | None, sums: Sums) -> Sums:
  """Returns totals + sums, in float64 on the host, because they grow over many steps."""

  def plus(total: Array | None, value: Array | None) -> Array | None:
    if value is None:
      return total
    if totals is not None and total is None:
      return None  # An older version began these sums without this one: a part of it says nothing.
    return np.asarray(value, np.float64) + (0.0 if total is None else total)

  return Sums(*map(plus, totals or (None,) * len(sums), sums))  # type: ignore[arg-type]


def shares(totals: Sums, component_names: Sequence[str]) -> dict[str, float]:
  """Returns {"share/NAME": share of the weight of the target tokens} of the parts of a mixture.

  share/code is that of all components code/NAME together.
  """
  if totals.component_weight is None:
    return {}
  found: dict[str, float] = {}
  for name, weight in zip(component_names, totals.component_weight, strict=True):
    for key in dict.fromkeys((name.partition("/")[0], name)):
      found[key] = found.get(key, 0.0) + float(weight)
  total = max(float(totals.weight), 1e-9)
  return {f"share/{name}": weight / total for name, weight in found.items()}


def means(totals: Sums, component_names: Sequence[str] = ()) -> dict[str, float]:
  """Returns the metrics that are reported, by name.

  Returns:
    loss: nats per target token that carries loss, or per label; accuracy: the share predicted
    right; exact_match: the share of the sequences that are right as a whole, where it is counted;
    bits_per_byte, where they are comparable (t5x_style.likelihoods); z_loss where there is one;
    pair_loss and pair_accuracy; loss/NAME per component of a mixture that appeared, and loss/new
    and loss/old of all components new/NAME and old/NAME. Of models with experts, as means over
    their layers and tokens: balance_loss (K if all experts are equally busy, see
    losses.expert_balance), router_z_loss, both without their weights; dropped, the share of the
    choices that found no room; busiest_expert, its load over the mean load.
  """
  weight = max(float(totals.weight), 1e-9)
  loss = float(totals.loss) / weight
  values = {"loss": loss, "accuracy": float(totals.correct) / weight}
  if totals.bytes is not None and float(totals.bytes) > 0:
    values["bits_per_byte"] = float(totals.loss) / math.log(2) / float(totals.bytes)
  if float(totals.z_loss) > 0:
    values["z_loss"] = float(totals.z_loss) / weight
  if totals.pair_weight is not None:
    assert totals.pair_loss is not None and totals.pair_correct is not None
    pairs = max(float(totals.pair_weight), 1e-9)
    values["pair_loss"] = float(totals.pair_loss) / pairs
    values["pair_accuracy"] = float(totals.pair_correct) / pairs
  if totals.sequences is not None:
    assert totals.sequences_right is not None
    right, count = float(totals.sequences_right), float(totals.sequences)
    values["exact_match"] = right / max(count, 1e-9)
  if totals.routed is not None:
    routed = max(float(totals.routed), 1e-9)
    for name, of_routers in (
      ("balance_loss", totals.balance_loss),
      ("router_z_loss", totals.router_z_loss),
      ("dropped", totals.dropped),
      ("busiest_expert", totals.busiest),
    ):
      assert of_routers is not None
      values[name] = float(of_routers) / routed
  if totals.component_weight is not None:
    assert totals.component_loss is not None
    sums: dict[str, np.ndarray] = {}
    parts = zip(component_names, totals.component_loss, totals.component_weight, strict=True)
    for name, *x in parts:
      group, slash, _ = name.partition("/")
      for key in (group, name) if slash else (name,):
        sums[key] = sums.get(key, np.zeros(2)) + x
    values |= {f"loss/{name}": float(x / w) for name, (x, w) in sums.items() if w > 0}
  return values
