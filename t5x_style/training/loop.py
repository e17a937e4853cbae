"""The training loop: from an opened run to a trained and saved model."""

import functools
from typing import NamedTuple

from t5x_style.training import finite_checks
from t5x_style.training.evaluation import make_evaluate, unigram_entropy
from t5x_style.training.job import Job, Reporter
from t5x_style.training.meter import Meter
from t5x_style.training.preemption import StopSignal
from t5x_style.training.state import TrainState
from t5x_style.training.step import compile_step


class Result(NamedTuple):
  """How a run ended. The records are the last ones; losses in nats per target token."""

  state: TrainState
  first_step: int  # where it resumed, 0 for a new run
  validation: dict[str, float]
  train: dict[str, float]
  baseline: float  # entropy of the held-out target tokens
  stopped_by: str | None  # the signal that ended it early


def train(job: Job, reporter: Reporter) -> Result:
  """Trains to the last step, or to the first Ctrl-C or SIGTERM, and saves.

  The state is taken out of `job`, because each step reuses the memory of its arrays.

  Raises:
    FloatingPointError: the loss, a gradient or the state is not finite. That state is not saved.
  """
  first, last = job.first_step, job.prepared.config.train_steps
  baseline = unigram_entropy(job.eval_batches, job.prepared.loss.side)
  reporter.started(first, baseline)
  loop = _Loop(job, reporter)
  reporter.compiled()
  with StopSignal() as stop, job.checkpoints, reporter.training(first, last):
    stopped_by = loop.run(stop)
  records = loop.last_records
  return Result(loop.state, first, records["validation"], records["train"], baseline, stopped_by)


class _Loop:
  """The state from step to step, with the programs that train, evaluate and check it."""

  def __init__(self, job: Job, reporter: Reporter):
    """Compiles the programs; not the step of a run that has no step left."""
    assert job.state is not None, "A job trains once: open_run opens another from its checkpoint."
    self.state, job.state = job.state, None
    self.last_records: dict[str, dict[str, float]] = {"train": {}, "validation": {}}
    self._job, self._reporter = job, reporter
    self._prepared, self._config = job.prepared, job.prepared.config
    if job.first_step < self._config.train_steps:
      self._step = compile_step(self._prepared)
      self._find_not_finite = self._prepared.find_not_finite
    self._evaluate = make_evaluate(self._prepared)
    self._meter = Meter(
      self._config.log_period,
      functools.partial(self._record, "train"),
      check=self._check,
      component_names=self._prepared.dataset.component_names,
      step_flops=self._prepared.step_flops,
      peak_flops=self._prepared.peak_flops,
      progress=job.progress,
    )

  def run(self, stop: StopSignal) -> str | None:
    """Trains the steps that are left; returns the signal that stopped it, or None."""
    first, last = self._job.first_step, self._config.train_steps
    stopped_by = None
    if self._job.progress.get("evaluation_due"):
      self._validate(first)
    for step in range(first + 1, last + 1):
      self._take_step(step)
      stopped_by = stop.at(step)
      self._validate_and_save(step, bool(stopped_by))
      if stopped_by:
        break
    self._meter.drain()
    if first >= last and not self.last_records["validation"]:  # The run was complete before.
      self.last_records["validation"] = self._evaluate(self.state.params, self._job.eval_batches)
    return stopped_by

  def _take_step(self, step: int) -> None:
    self._reporter.before_step(step)
    with self._meter.waiting():
      batch = next(self._job.iterator)
    self.state, metrics = self._step(self.state, self._prepared.partitioner.put(batch))
    self._meter.add(step, metrics)
    self._reporter.after_step(step, metrics, self._step)

  def _validate_and_save(self, step: int, stopped: bool) -> None:
    """Does what is due after a step."""
    config = self._config
    at_end = step == config.train_steps
    loss, evaluation_due = None, at_end or step % config.eval_period == 0
    # A machine that is taken away leaves time to save; the run evaluates when it resumes.
    if evaluation_due and not stopped:
      with self._meter.paused():
        loss = self._validate(step)
    if at_end or stopped or step % config.save_period == 0:
      with self._meter.paused():
        self._save(step, loss, evaluation_due=evaluation_due and loss is None)

  def _validate(self, step: int) -> float:
    values = self._evaluate(self.state.params, self._job.eval_batches)
    self._check(step, {"validation loss": values["loss"]})
    self._record("validation", step, values | {"seconds": self._meter.seconds})
    return values["loss"]

  def _save(self, step: int, validation_loss: float | None, evaluation_due: bool) -> None:
    finite_checks.check_state(
      step, self._find_not_finite(self.state), self._job.checkpoints.latest()
    )
    if validation_loss is None:  # One batch shows whether the parameters are still of use.
      values = self._evaluate(self.state.params, self._job.eval_batches[:1])
      self._check(step, {"validation loss": values["loss"]})
    self._reporter.before_save(step)
    self._job.checkpoints.save(
      self.state,
      self._job.iterator.get_state(),
      identity=self._prepared.identity(),
      progress=self._meter.progress()
      | {"evaluation_due": evaluation_due, "settings": self._prepared.settings(step)},
      validation_loss=validation_loss,
    )

  def _record(self, split: str, step: int, values: dict[str, float]) -> None:
    self.last_records[split] = values
    self._reporter.record(step, split, values)

  def _check(self, step: int, values: dict[str, float]) -> None:
    finite_checks.check_values(step, values, self._job.checkpoints.latest())
