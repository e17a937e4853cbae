"""Reports a run to the terminal, the files of metrics and the profiler while it trains."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from t5x_style.reporting import run_description, skipped_batches
from t5x_style.reporting.heartbeat import Heartbeat
from t5x_style.reporting.profiling import Profiler
from t5x_style.reporting.sampling import Sampler
from t5x_style.reporting.terminal import Terminal
from t5x_style.reporting.writers import MetricWriters
from t5x_style.training.dataset import Batch
from t5x_style.training.job import Job
from t5x_style.training.metrics import Metrics
from t5x_style.training.setup import Prepared

# Batches of skipped steps that one start of a run saves.
_MOST_BATCHES = 20


class RunReporter:
  """The Reporter (t5x_style.training.job) of one run."""

  def __init__(
    self,
    prepared: Prepared,
    first_step: int,
    terminal: Terminal,
    heartbeat: Heartbeat | None = None,
    before_write: Callable[[], None] | None = None,
    sampler: Sampler | None = None,
  ):
    """Opens the files of metrics in MODEL_DIR, and drops their records after `first_step`.

    Args:
      heartbeat: is told of the progress of the run.
      before_write: called before something is written to MODEL_DIR; it may end the process.
      sampler: takes samples after evaluations; None takes none.

    Raises:
      UserError: a tracker is requested whose package is not installed.
    """
    self._terminal = terminal
    self._heartbeat = heartbeat or Heartbeat()
    self._before_write = before_write or (lambda: None)
    self._prepared = prepared
    self._sampler = sampler
    self._batches_left = _MOST_BATCHES
    self._writers = MetricWriters(prepared.model_dir, first_step)
    self._profiler = Profiler(prepared.config.profile_steps, prepared.model_dir)

  def started(self, step: int, baseline: float) -> None:
    self._heartbeat.beat("compiling", step)
    self._terminal.started(step, baseline)

  def compiled(self) -> None:
    self._heartbeat.beat("training")
    self._terminal.compiled()

  def stage_began(self, job: Job, baseline: float) -> None:
    self._prepared = job.prepared
    if self._sampler:
      self._sampler.follow(job)
    self._heartbeat.beat("compiling")
    about = f"unigram entropy {baseline:.3f} nats/token"
    self._terminal.stage_began(f"Stage {run_description.stage_line(job.prepared)}; {about}")

  @contextlib.contextmanager
  def training(self, first: int, last: int) -> Iterator[None]:
    with self._writers, self._profiler, self._terminal.progress(first, last):
      yield

  def before_step(self, step: int) -> None:
    self._heartbeat.beat("training")
    self._profiler.before(step)

  def after_step(self, step: int, metrics: Metrics, compiled: jax.stages.Compiled) -> None:
    self._heartbeat.beat("training", step)
    self._terminal.step(step)
    if profile := self._profiler.after(step, metrics, compiled):
      self._terminal.note(profile)

  def progressed(self, activity: str) -> None:
    self._heartbeat.beat(activity)

  def unusual(self, step: int, what: str) -> None:
    self._terminal.note(f"step {step:,}: {what}")

  def skipped(self, step: int, reason: str, batch: Batch) -> None:
    """Shows the step, and saves its batch for inspection."""
    self.unusual(step, f"skipped, {reason}")
    if self._batches_left:
      self._batches_left -= 1
      self._before_write()
      skipped_batches.save(self._prepared.model_dir, step, reason, batch, self._prepared.dataset)

  def rolled_back(self, step: int, to: int, reason: str) -> None:
    self.unusual(step, f"rolled back to step {to:,}; the data between is left out. {reason}")
    self._before_write()
    self._writers.rewind(to)
    if self._sampler:
      self._sampler.rewind(to)

  def record(self, step: int, split: str, values: Mapping[str, float]) -> None:
    self._before_write()
    self._writers.write(step, split, values)
    self._terminal.record(step, split, values)

  def evaluated(self, step: int, params: Any) -> None:
    """Takes a sample, if one is due."""
    if self._sampler and self._sampler.is_due(step):
      self._heartbeat.beat("sampling")
      self._before_write()
      self._sampler.take(step, params)

  def before_save(self, step: int) -> None:
    """Writes all records to the files: a killed run loses only those after its last checkpoint."""
    self._heartbeat.beat("saving")
    self._before_write()
    self._writers.flush()
