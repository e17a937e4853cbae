"""How many FLOPs a second this machine trains with, and what of them a run of some minutes gets."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from t5x_style.comparison import budget
from t5x_style.errors import UserError
from t5x_style.planning import sizing

_SECONDS = 4.0  # of the steps that are timed, for one model
_ROUNDS = 4  # at least
_BATCHES = 2
_EVALUATION = 1 / 3  # of a step, for a held-out batch: it has no backward pass
EVALUATIONS = 10  # of a run
_MOST_MODELS = 4


class Speed(NamedTuple):
  """Seconds that were measured.

  Attributes:
    step: of a training step; compile: until the first one can begin.
  """

  step: float
  compile: float


def measure(config: Any) -> Speed:
  """Times real training steps of a run on this machine.

  Args:
    config: a TrainConfig; its first batches are trained on, and nothing is kept.
  """
  import jax

  from t5x_style.training import setup
  from t5x_style.training.step import compile_step

  prepared = setup.prepare(config)
  begun = time.perf_counter()
  compiled = compile_step(prepared)
  state = prepared.init(config.seed)
  stream = prepared.dataset.train()
  batches = [prepared.partitioner.put(next(stream)) for _ in range(_BATCHES)]
  compile_seconds = time.perf_counter() - begun
  log: list[tuple[int, float]] = []
  begun = time.perf_counter()
  while len(log) <= _ROUNDS or time.perf_counter() - begun < _SECONDS:
    state, metrics = compiled(state, batches[len(log) % _BATCHES])
    jax.block_until_ready(metrics)
    log.append((len(log), time.perf_counter()))
  return Speed(budget.seconds_per_step(log), compile_seconds)


def run_of_minutes(
  minutes: float,
  first: sizing.Run,
  choose: Callable[[float], sizing.Run],
  timed: Callable[[sizing.Run], Speed],
  eval_batches: int,
) -> tuple[sizing.Run, Speed]:
  """Returns the run whose compilation, steps and evaluations take these minutes, and its speed.

  Wide models use a machine better than narrow ones, so the FLOPs follow from the size as the size
  follows from the FLOPs: the model that the last speed leads to is timed in turn, until it is the
  same one.

  Args:
    first: the run whose speed leads to the first choice.
    choose: the best run for some FLOPs.
    timed: the speed of a run.
    eval_batches: of an evaluation.

  Raises:
    UserError: the minutes are over before training could begin.
  """
  run = first
  known: dict[tuple[int, int], Speed] = {}
  for _ in range(_MOST_MODELS):
    key = _key(run)
    known[key] = known.get(key) or timed(run)
    speed = known[key]
    steps = steps_in(60 * minutes, speed, eval_batches)
    if steps < 1:
      raise UserError(
        f"MINUTES = {minutes:g} are too few: compiling took {speed.compile:.0f} s and a step "
        f"{speed.step:.2g} s. Set a larger number."
      )
    chosen = choose(steps * run.step_flops)
    if _key(chosen) == key:
      return chosen, speed
    run = chosen
  # Sizes that lead to each other are about as good: the last one is trained for the time.
  speed = known.get(_key(run)) or timed(run)
  steps = math.floor(steps_in(60 * minutes, speed, eval_batches))
  return dataclasses.replace(run, train_steps=max(1, steps)), speed


def _key(run: sizing.Run) -> tuple[int, int]:
  return run.model.emb_dim, run.batch_size


def steps_in(seconds: float, speed: Speed, eval_batches: int) -> float:
  """Returns how many steps can be trained in some seconds, beside compilation and evaluations."""
  evaluations = EVALUATIONS * eval_batches * _EVALUATION
  return (seconds - speed.compile) / speed.step - evaluations
