"""What the training loop needs: an opened run, its checkpoints, and a reporter."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import jax

from t5x_style.training.dataset import Batch, BatchIterator
from t5x_style.training.metrics import Metrics
from t5x_style.training.setup import Prepared
from t5x_style.training.state import TrainState


class Checkpoints(AbstractContextManager, Protocol):
  """Where a run is saved. Leaving the context waits until everything saved so far is complete.

  Attributes:
    failed_saves: how many saves have failed since the run started.
  """

  failed_saves: int

  def latest(self) -> int | None:
    """Returns the step of the newest complete checkpoint, None if there is none."""
    ...

  def wait(self) -> None:
    """Returns when everything saved so far is complete, or has failed.

    Raises:
      StorageError: too many saves in a row have failed.
    """
    ...

  def save(
    self,
    state: TrainState,
    streams: dict[str, bytes],
    *,
    identity: dict[str, Any],
    progress: dict[str, Any],
    validation: Mapping[str, float] | None = None,
    last: bool = False,
  ) -> None:
    """Saves under the state's own step; returns once the arrays are copied off the device.

    A failure is reported and does not end the run, unless too many follow each other.

    Args:
      last: the run ends after this save: returns when it is complete; fails if it cannot be.
      streams: the place in the data, as BatchIterator.get_state returns it.
      identity: Prepared.identity() of the run.
      progress: JSON that the loop needs to resume.
      validation: the metrics of the held-out batches at this step, None if they were not computed.
    """
    ...


class Reporter(Protocol):
  """What the loop reports to: a terminal, files of metrics, a profiler, a heartbeat."""

  def started(self, step: int, baseline: float) -> None:
    """Compilation begins. `baseline` is the unigram entropy of the held-out targets, in nats."""
    ...

  def compiled(self) -> None: ...

  def stage_began(self, job: "Job", baseline: float) -> None:
    """A stage follows another one; its compilation begins. `baseline` is that of its data."""
    ...

  def training(self, first: int, last: int) -> AbstractContextManager:
    """The context of the steps after `first`, up to `last`."""
    ...

  def before_step(self, step: int) -> None: ...

  def after_step(self, step: int, metrics: Metrics, compiled: jax.stages.Compiled) -> None:
    """The step has been dispatched: its metrics may still be computed."""
    ...

  def progressed(self, activity: str) -> None:
    """A part of "evaluating" is done."""
    ...

  def unusual(self, step: int, what: str) -> None:
    """Shows one line about a step."""
    ...

  def skipped(self, step: int, reason: str, batch: Batch) -> None:
    """A step did not update the parameters; `batch` are this process' rows of its batch."""
    ...

  def rolled_back(self, step: int, to: int, reason: str) -> None:
    """After `step` steps the run went back to the checkpoint of step `to`.

    The records of the steps between are to be removed.
    """
    ...

  def record(self, step: int, split: str, values: dict[str, float]) -> None:
    """Values after `step` steps on `split` ("train", "validation")."""
    ...

  def evaluated(self, step: int, params: Any) -> None:
    """The parameters were evaluated after `step` steps, and saved if that was due."""
    ...

  def before_save(self, step: int) -> None:
    """Writes the records until now: a run that resumes from the checkpoint needs all of them."""
    ...


class InitialParameters(NamedTuple):
  """Where the parameters of a run come from that begins with those of another model.

  Attributes:
    summary: a few lines for the terminal.
    report: a line for each parameter.
  """

  summary: str
  report: str


@dataclasses.dataclass
class Job:
  """A prepared run with its state and iterators, new or restored; nothing is compiled yet.

  Attributes:
    state: None once training has taken it, because each step reuses the memory of its arrays.
    first_step: where the run resumes, 0 for a new one.
    progress: what the loop saved beside the state; {} for a new run.
    roll_back: restores the newest good checkpoint as a start of the run does; returns its state and
      progress, or None if there is no checkpoint. Raises UserError if none is good.
    changes: a line for each setting that has changed since the checkpoint was saved.
    initial: of a new run whose parameters come from another model.
    later: the stages of the run that follow `prepared` (t5x_style.training.stages).
  """

  prepared: Prepared
  checkpoints: Checkpoints
  iterator: BatchIterator
  eval_batches: list[Batch]
  state: TrainState | None
  first_step: int
  progress: dict[str, Any]
  roll_back: Callable[[], tuple[TrainState, dict[str, Any]] | None]
  changes: Sequence[str] = ()
  initial: InitialParameters | None = None
  later: Sequence[Prepared] = ()
