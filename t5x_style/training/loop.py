"""The training loop: from an opened run to a trained and saved model."""

import collections
import contextlib
import functools
from typing import Any, NamedTuple

import jax

from t5x_style.errors import StorageError, UserError
from t5x_style.training import finite_checks, stages
from t5x_style.training.dataset import Batch
from t5x_style.training.evaluation import make_evaluate, unigram_entropy
from t5x_style.training.guard import Verdict
from t5x_style.training.job import Job, Reporter
from t5x_style.training.meter import Meter
from t5x_style.training.metrics import Metrics
from t5x_style.training.preemption import StopSignal
from t5x_style.training.state import TrainState
from t5x_style.training.step import compile_step


class Result(NamedTuple):
  """How a run ended. The records are the last ones; losses in nats per target token."""

  state: TrainState
  first_step: int  # where it resumed, 0 for a new run
  validation: dict[str, float]
  train: dict[str, float]
  reference: dict[str, float]  # validation before the first step, of a run with initial parameters
  baseline: float  # entropy of the held-out target tokens
  stopped_by: str | None  # the signal that ended it
  complete: bool  # All steps are trained, and the last state is evaluated and saved.
  job: Job  # of its last stage


def train(job: Job, reporter: Reporter) -> Result:
  """Trains to the last step, or to the first Ctrl-C, SIGTERM or SIGHUP, and saves.

  The state is taken out of `job`, because each step reuses the memory of its arrays.

  Raises:
    FloatingPointError: the loss or the gradient was not finite at several steps in a row, or the
      state is not finite, which is then not saved; and the run could not roll back.
    StorageError: the last state cannot be saved, or MAX_FAILED_SAVES saves in a row have failed.
  """
  first, last = job.first_step, job.prepared.config.train_steps
  baseline = _baseline(job)
  reporter.started(first, baseline)
  loop = _Loop(job, reporter)
  reporter.compiled()
  with StopSignal() as stop, job.checkpoints, reporter.training(first, last):
    complete = loop.run(stop)
    while complete and loop.job.later and not stop.agreed:
      job = stages.next_job(loop.job, loop.state, loop.progress())
      baseline = _baseline(job)
      reporter.stage_began(job, baseline)
      loop = _Loop(job, reporter)
      reporter.compiled()
      complete = loop.run(stop)
  validation, training = loop.last_records["validation"], loop.last_records["train"]
  return Result(
    loop.state,
    first,
    validation,
    training,
    loop.reference,
    baseline,
    stop.agreed,
    complete and not loop.job.later,
    loop.job,
  )


def _baseline(job: Job) -> float:
  loss = job.prepared.loss
  return unigram_entropy(job.eval_batches, loss.side, loss.labels_only)


# After this many rollbacks to one checkpoint, other data does not help either.
_MOST_ROLLBACKS = 3


class _Loop:
  """The state from step to step of a stage, with what trains, evaluates and checks it."""

  def __init__(self, job: Job, reporter: Reporter):
    """Compiles the programs; not the step of a run that has no step left."""
    assert job.state is not None, "A job trains once: open_run opens another from its checkpoint."
    self.state: Any = job.state
    job.state = None
    self.last_records: dict[str, dict[str, float]] = {"train": {}, "validation": {}}
    self.reference: dict[str, float] = job.progress.get("reference", {})
    self.job, self._reporter = job, reporter
    self._prepared, self._config = job.prepared, job.prepared.config
    if job.first_step < self._prepared.last_step:
      self._step = compile_step(self._prepared)
      self._find_not_finite = self._prepared.find_not_finite
    self._evaluate = make_evaluate(
      self._prepared, functools.partial(reporter.progressed, "evaluating")
    )
    self._rollbacks = job.progress.get("rollbacks", 0)
    self._rollbacks_to: collections.Counter[int] = collections.Counter()
    # Until their metrics are read, one step later.
    self._batches: dict[int, Batch] = {}
    self._epochs: dict[int, dict[str, float]] = {}
    self._of_step: dict[str, float] = {}  # what the next record of training says of the data
    self._meter = self._new_meter(job.progress)

  def run(self, stop: StopSignal) -> bool:
    """Trains the steps that are left, until a signal stops it; returns whether all is done."""
    self._stop = stop
    step, last = self.job.first_step, self._prepared.last_step
    evaluation_due = bool(self.job.progress.get("evaluation_due"))
    if evaluation_due:
      evaluation_due = self._validate(step) is None
    if step == 0 and self._config.initial_checkpoint_path:
      with self._meter.paused():
        self._validate(step)
      self.reference = self.last_records["validation"]
    while step < last and not stop.agreed:
      step += 1
      try:
        self._take_step(step)
        stop.requested()
        evaluation_due = self._validate_and_save(step)
      except FloatingPointError as error:
        step = self._roll_back(step, error)
    if not stop.agreed and not self.last_records["validation"]:  # The run was complete before.
      values = self._evaluate(self.state.params, self.job.eval_batches, stop.requested)
      self.last_records["validation"] = values or {}
    stop.requested()  # A signal during the last save leaves no time for a sample.
    return step >= last and not evaluation_due

  def _take_step(self, step: int) -> None:
    self._reporter.before_step(step)
    try:
      with self._meter.waiting():
        batch = next(self.job.iterator)
    except Exception:
      self._save_before_the_end(step - 1)
      raise
    self._batches[step], self._epochs[step] = batch, self.job.iterator.epochs()
    self.state, metrics = self._step(self.state, self._prepared.partitioner.put(batch))
    self._meter.add(step, metrics)
    self._reporter.after_step(step, metrics, self._step)

  def _validate_and_save(self, step: int) -> bool:
    """Does what is due after a step; returns whether an evaluation is still due."""
    config = self._config
    at_end = step == self._prepared.last_step
    values, evaluation_due = None, at_end or step % config.eval_period == 0
    # A machine that is taken away leaves time to save; the run evaluates when it resumes.
    if evaluation_due and not self._stop.agreed:
      with self._meter.paused():
        values = self._validate(step)
    evaluation_due = evaluation_due and values is None
    last = step == config.train_steps or bool(self._stop.agreed)
    if last or at_end or step % config.save_period == 0:
      with self._meter.paused():
        self._save(step, values, evaluation_due=evaluation_due, last=last)
    if values is not None and not self._stop.agreed:
      with self._meter.paused():
        self._reporter.evaluated(step, self.state.params)
    return evaluation_due

  def _validate(self, step: int) -> dict[str, float] | None:
    """Returns the metrics of the held-out batches; None if a signal came meanwhile."""
    batches = self.job.eval_batches
    values = self._evaluate(self.state.params, batches, self._stop.requested)
    if values is None:
      return None
    self._check(step, {"validation loss": values["loss"]})
    self._record("validation", step, values | {"seconds": self._meter.seconds})
    return values

  def _save(
    self, step: int, validation: dict[str, float] | None, *, evaluation_due: bool, last: bool
  ) -> None:
    finite_checks.check_state(
      step, self._find_not_finite(self.state), self.job.checkpoints.latest()
    )
    if validation is None:  # One batch shows whether the parameters are still of use.
      values = self._evaluate(self.state.params, self.job.eval_batches[:1])
      assert values is not None
      self._check(step, {"validation loss": values["loss"]})
    self._reporter.before_save(step)
    self.job.checkpoints.save(
      self.state,
      self.job.iterator.get_state(),
      identity=self._prepared.identity(),
      progress=self.progress()
      | {
        "evaluation_due": evaluation_due,
        "settings": self._prepared.settings(step - int(self.state.guard.skipped)),
      },
      validation=validation,
      last=last,
    )

  def progress(self) -> dict[str, Any]:
    """Returns JSON of what the next step, or the next stage, needs beside the state."""
    kept: dict[str, Any] = {"rollbacks": self._rollbacks}
    if self.reference:
      kept["reference"] = self.reference
    if self._staged:
      kept["stage"] = self._prepared.stage.number
    return self._meter.progress() | kept

  @property
  def _staged(self) -> bool:
    return bool(self._prepared.stage.name)

  def _save_before_the_end(self, step: int) -> None:
    """Saves the last complete step of a run that has to end, because no batch can be read.

    Of several processes only this one may know about it, so they cannot save together.
    """
    if step > (self.job.checkpoints.latest() or 0) and jax.process_count() == 1:
      with contextlib.suppress(FloatingPointError, StorageError), self._meter.paused():
        self._save(step, None, evaluation_due=False, last=True)

  def _new_meter(self, progress: dict[str, Any]) -> Meter:
    return Meter(
      self._config.log_period,
      functools.partial(self._record, "train"),
      watch=self._watch,
      component_names=self._prepared.dataset.component_names,
      step_flops=self._prepared.step_flops,
      peak_flops=self._prepared.peak_flops,
      progress=progress,
      last=self._prepared.last_step if self.job.later else None,
    )

  def _record(self, split: str, step: int, values: dict[str, float]) -> None:
    if self._staged:
      values = values | {"stage": self._prepared.stage.number}
    if self._rollbacks:
      values = values | {"rollbacks": self._rollbacks}
    if split == "train":
      values = values | self._of_step
    if split == "train" and (failed := self.job.checkpoints.failed_saves):
      values = values | {"failed_saves": failed}
    self.last_records[split] = values
    self._reporter.record(step, split, values)

  def _watch(self, step: int, metrics: Metrics) -> None:
    """Looks at what the guard found at a step, once its metrics are on the host."""
    batch = self._batches.pop(step)
    epochs = self._epochs.pop(step)
    self._of_step = {f"epochs/{corpus}": count for corpus, count in epochs.items()}
    if metrics.updated:
      return
    values = f"loss {metrics.loss:.4g}, gradient norm {metrics.grad_norm:.4g}"
    spike, most = metrics.verdict == Verdict.SPIKE, self._config.max_skipped_steps
    self._reporter.skipped(step, f"{'a spike' if spike else 'not finite'}: {values}", batch)
    self.job.checkpoints.wait()  # What happens next must not depend on the speed of the disk.
    saved = self.job.checkpoints.latest()
    if not spike:
      finite_checks.check_skipped(step, metrics, most, saved)
    elif metrics.guard.spikes_in_a_row == 0:  # The guard has lost its patience.
      if self._config.roll_back and saved is not None:
        raise FloatingPointError(f"Step {step} was the last of {most} spikes in a row.")
      self._reporter.unusual(step, f"{most} spikes in a row are taken for a lasting change.")

  def _roll_back(self, step: int, error: FloatingPointError) -> int:
    """Restores the newest checkpoint, but not its place in the data; returns its step.

    Raises:
      FloatingPointError: the given error, if the run must not or cannot roll back.
    """
    self.job.checkpoints.wait()
    if not self._config.roll_back or self.job.checkpoints.latest() is None:
      raise error
    self.state = None  # There may be no memory for two.
    try:
      restored = self.job.roll_back()
    except UserError as reason:
      raise FloatingPointError(f"{error} The run cannot roll back: {reason}") from error
    if restored is None:
      raise error
    self.state, progress = restored
    newest = int(self.state.step)
    if newest < self._prepared.stage.first:
      raise FloatingPointError(
        f"{error} The newest good checkpoint is of step {newest}, before this stage of the run, "
        f"{self._prepared.stage.name!r}, began. Start the same command again."
      ) from error
    self.state = stages.begin(self._prepared, self.state)
    if self._rollbacks_to[newest] == _MOST_ROLLBACKS:
      raise FloatingPointError(
        f"{error} The run has rolled back to step {newest} {_MOST_ROLLBACKS} times."
      ) from error
    self._rollbacks_to[newest] += 1
    self._rollbacks += 1
    self._batches.clear()
    self._epochs.clear()
    self._meter = self._new_meter(progress | {"seconds": self._meter.seconds})
    self._reporter.rolled_back(step, newest, str(error))
    return newest

  def _check(self, step: int, values: dict[str, float]) -> None:
    finite_checks.check_values(step, values, self.job.checkpoints.latest())
