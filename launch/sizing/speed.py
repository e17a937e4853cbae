"""How many FLOPs a second this machine trains with, and what of them a run of some minutes gets."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from t5x_style.comparison import budget
from t5x_style.durations import duration
from t5x_style.errors import UserError
from t5x_style.planning import sizing

_SECONDS = 4.0  # of the steps that are timed, for one model
_ROUNDS = 4  # at least
_BATCHES = 2
_EVALUATION = 1 / 3  # of a step, for a held-out batch: it has no backward pass
EVALUATIONS = 10  # of a run
_MOST_MODELS = 4
_FOR_TIMING = 0.5  # of the minutes; no other model is timed if that would take more


class Speed(NamedTuple):
  """Seconds that were measured.

  Attributes:
    step: of a training step; compile: until the first one can begin, opening the data included.
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

  begun = time.perf_counter()
  prepared = setup.prepare(config)
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


class Minutes(NamedTuple):
  """What a run of some minutes is chosen with.

  Attributes:
    minutes: from the start of the choice to the end of the run.
    eval_batches: of an evaluation.
    choose: FLOPs -> the best run.
    plan: (model, FLOPs) -> the run of this model.
    timed: a run -> its speed.
    spent: the seconds that have gone by.
  """

  minutes: float
  eval_batches: int
  choose: Callable[[float], sizing.Run]
  plan: Callable[[Any, float], sizing.Run]
  timed: Callable[[sizing.Run], Speed]
  spent: Callable[[], float]

  def run(self, first: sizing.Run) -> tuple[sizing.Run, Speed]:
    """Returns the run that takes what is left of the minutes, and its speed.

    Wide models use a machine better than narrow ones, so the FLOPs follow from the size as the size
    follows from the FLOPs: the model that the last speed leads to is timed in turn, until it is the
    same one. If that does not end, the largest timed model for which the time suffices is trained.

    Args:
      first: the run whose speed leads to the first choice.

    Raises:
      UserError: the minutes are too few for any of the models that were timed.
    """
    known: dict[tuple[int, int], tuple[sizing.Run, Speed]] = {}
    run = first
    while _key(run) not in known and len(known) < _MOST_MODELS:
      begun = self.spent()
      speed = self.timed(run)
      known[_key(run)] = run, speed
      flops = self._flops(run, speed)
      try:
        chosen = self.choose(flops) if flops > 0 else None
      except sizing.TooSmall:
        chosen = None
      if chosen is None:
        break
      if _key(chosen) == _key(run):
        return chosen, speed
      if 2 * self.spent() - begun > _FOR_TIMING * 60 * self.minutes:
        break
      run = chosen
    found = list(self._known(known.values()))
    if not found:
      raise self._too_few(min(speed for _, speed in known.values()))
    return max(found, key=lambda one: one[0].model.emb_dim)

  def _known(self, timed: Any) -> Iterator[tuple[sizing.Run, Speed]]:
    """Yields the runs of models that were timed, of those for which the time suffices."""
    for run, speed in timed:
      flops = self._flops(run, speed)
      if flops > 0:
        planned = self.plan(run.model, flops)
        if planned.train_steps >= sizing.LEAST_STEPS:
          # The batch may be another one than that which was timed.
          step = speed.step * planned.step_flops / run.step_flops
          yield planned, speed._replace(step=step)

  def _flops(self, run: sizing.Run, speed: Speed) -> float:
    left = 60 * self.minutes - self.spent()
    return steps_in(left, speed, self.eval_batches) * run.step_flops

  def _too_few(self, speed: Speed) -> UserError:
    evaluations = _evaluation_steps(self.eval_batches) * speed.step
    return UserError(
      f"MINUTES = {self.minutes:g} are too few for {sizing.LEAST_STEPS} steps: the choice took "
      f"{duration(self.spent())}; of the run, compiling takes {duration(speed.compile)}, a step "
      f"{speed.step:.2g} s, and its {EVALUATIONS} evaluations with EVAL_BATCHES = "
      f"{self.eval_batches} take {duration(evaluations)}. Set a larger number."
    )


def _key(run: sizing.Run) -> tuple[int, int]:
  return run.model.emb_dim, run.batch_size


def steps_in(seconds: float, speed: Speed, eval_batches: int) -> float:
  """Returns how many steps can be trained in some seconds, beside compilation and evaluations."""
  return (seconds - speed.compile) / speed.step - _evaluation_steps(eval_batches)


def _evaluation_steps(eval_batches: int) -> float:
  """Returns how many steps take as long as all evaluations of a run."""
  return EVALUATIONS * eval_batches * _EVALUATION
