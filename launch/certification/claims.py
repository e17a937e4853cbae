"""Claims of papers about two settings, on a small decoder and three seeds each.

The size of such a difference depends on the model, the text and the steps: a claim passes if the
mean over seeds has the right sign and roughly the published size. The line has the standard error.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from . import certificate, runs
from .catalogue import ABOUT
from .recipe import Context, Recipe, needs_tiny_shakespeare

SEEDS = (0, 1, 2)
STEPS = 1000


def recipes() -> Iterator[Recipe]:
  """Yields a recipe for each claim."""
  for name, run in (("geglu", _geglu), ("muon", _muon)):
    yield Recipe(name, needs_tiny_shakespeare, functools.partial(_tried, name, run))


def _tried(
  name: str, run: Callable[[Context], certificate.Line], context: Context
) -> certificate.Line:
  try:
    return run(context)
  except FloatingPointError as error:
    return certificate.Line(name, ABOUT[name], "failed", reason=f"A run diverged: {error}")


# Shazeer 2020, table 1, after 65,536 steps: log-perplexities 1.942 and 1.997.
GEGLU_LESS_RELU, GEGLU_BOUND = 1.942 - 1.997, 0.03


def _geglu(context: Context) -> certificate.Line:
  differences = [
    _loss(context, "geglu", "geglu", seed) - _loss(context, "geglu", "geglu_relu", seed)
    for seed in SEEDS
  ]
  claim = "loss with GEGLU less that with ReLU at equal parameters and steps, nats per token"
  return judge("geglu", claim, GEGLU_LESS_RELU, differences, GEGLU_BOUND, most=0.0)


# github.com/KellerJordan/modded-nanogpt, track 3 (the same model and text, fewest steps to a loss
# of 3.28): 3,500 steps with Muon, 5,625 with AdamW.
MUON_STEPS, MUON_BOUND = 3500 / 5625, 0.2
# The shares of AdamW's steps that Muon gets; its schedule ends with them.
MUON_SHARES = (0.4, 0.7)


def _muon(context: Context) -> certificate.Line:
  ratios = []
  for seed in SEEDS:
    target = _loss(context, "muon", "muon_adamw", seed)
    reached = [_loss(context, "muon", "muon", seed, share) for share in MUON_SHARES]
    ratios.append(steps_to(target, MUON_SHARES, reached))
  claim = "steps after which Muon has AdamW's last loss, as a share of AdamW's steps"
  return judge("muon", claim, MUON_STEPS, ratios, MUON_BOUND, most=1.0)


def steps_to(loss: float, steps: Sequence[float], losses: Sequence[float]) -> float:
  """Returns after how many steps a run has a loss, from two runs with different numbers of steps.

  The loss is taken as linear in the logarithm of the steps.
  """
  share = (losses[0] - loss) / (losses[0] - losses[1])
  return math.exp(math.log(steps[0]) + share * math.log(steps[1] / steps[0]))


def judge(
  name: str, claim: str, published: float, found: Sequence[float], bound: float, most: float
) -> certificate.Line:
  """Returns a line about the mean of several seeds, which must also be below `most`, clearly."""
  mean, spread = statistics.mean(found), statistics.stdev(found)
  error = spread / math.sqrt(len(found))
  shown = ", ".join(f"{value:.4f}" for value in found)
  reason = f"seeds: {shown}; standard error {error:.4f}; clearly below {most:g} is required"
  details = {"seeds": list(found), "standard_error": error}
  line = certificate.judged(name, claim, published, mean, bound, reason=reason, details=details)
  clear = mean + 2 * error < most
  return line if clear else dataclasses.replace(line, verdict="failed")


def _loss(context: Context, name: str, gin_file: str, seed: int, share: float = 1.0) -> float:
  """Trains gin_configs/certificate/`gin_file`.gin and returns its loss on the held-out text."""
  run = f"{gin_file}-{seed}" if share == 1 else f"{gin_file}-{share:g}-{seed}"
  folder: Path = context.folder / name

  def measure() -> float:
    steps = round(share * STEPS)
    given = [f"TRAIN_STEPS = {steps}", f"EVAL_PERIOD = {steps}", f"RANDOM_SEED = {seed}"]
    path = f"certificate/{gin_file}.gin"
    prepared = runs.prepare(path, [*given, *context.settings], folder / run)
    context.say(f"{name}: {run}, {prepared.config.train_steps:,} steps")
    return runs.train(prepared)

  return runs.remembered(folder / f"{run}.json", measure)
