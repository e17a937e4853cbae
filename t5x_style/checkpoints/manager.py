"""The checkpoints of a run: the state, the place in the data, and the identity of the run."""

import functools
import time
import warnings
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from t5x_style.checkpoints import reading, retention, step_folders, verification
from t5x_style.checkpoints.saving import Files, Save, reason
from t5x_style.errors import StorageError
from t5x_style.training.state import TrainState

_PAUSES = (1, 3, 6)  # seconds between the attempts to save the last state of a run
_ADVICE = "Make room or give the permission, and start the same command again."


class Checkpoints:
  """The checkpoints of one run. They are saved in the background; the newest and the best stay.

  Layout: DIRECTORY/STEP/{state, data, run}. A checkpoint gets its name only when it is complete, so
  a process that is killed while it saves leaves the older ones untouched.

  A save that fails, for example because the disk is full, does not end the run: it is reported, and
  what it wrote is removed. The older checkpoints stay, and the next save is a new attempt.

  Attributes:
    failed_saves: how many saves have failed since the run started.
  """

  def __init__(
    self,
    directory: epath.PathLike,
    keep: int = 3,
    keep_best: int = 1,
    max_failed_saves: int = 5,
    verify: bool = True,
    best_metric: str = retention.DEFAULT_METRIC,
  ):
    """Opens the directory, which the first save makes.

    Args:
      directory: local or gs:// path.
      keep: how many of the newest checkpoints stay.
      keep_best: how many of the best by `best_metric` stay in addition.
      max_failed_saves: this many failed saves in a row raise StorageError.
      verify: digests are saved with each checkpoint, and compared when it is restored.
      best_metric: a name in the validation records.
    """
    self.failed_saves = 0
    self._directory = epath.Path(directory).absolute()
    self._keep, self._keep_best, self._max_failed = keep, keep_best, max_failed_saves
    self._verify, self._metric = verify, best_metric
    self._failed_in_a_row, self._problem = 0, ""
    self._saving: Save | None = None
    self._ranks: dict[int, float] = {}  # of the steps of the present stage; NaN for others
    self._stage = 1
    self._latest = max(self.steps(), default=None)

  def latest(self) -> int | None:
    """Returns the step of the newest complete checkpoint, None if there is none; reads no disk."""
    return self._latest

  def rolled_back(self, step: int) -> None:
    """Takes note that the run went back to the checkpoint of step `step`, the newest good one."""
    self._latest = step

  def steps(self) -> list[int]:
    """Returns the steps of all complete checkpoints on the disk, sorted."""
    return step_folders.complete_steps(self._directory)

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

    Args:
      validation: the metrics of the held-out batches at this step, if they were computed.
      last: the run ends after this save: it returns only when the checkpoint is complete. If the
        save fails, tries again a few times.

    Raises:
      StorageError: the last save failed, or too many in a row have failed.
    """
    step = int(state.step)
    self.wait(raises=not last)
    if self._latest == step:
      return
    run = {
      "identity": identity,
      "progress": progress,
      "guard": state.guard.as_json(),
      "validation_loss": validation["loss"] if validation else None,
      "validation": dict(validation or {}),
      "best_metric": self._metric,
    }
    arrays = reading.Arrays.of(state)
    if self._verify:
      run = verification.with_digests(run, step, arrays, streams)
    files = Files(streams, run)
    if (stage := progress.get("stage", 1)) != self._stage:
      self._stage, self._ranks = stage, {}
    self._ranks[step] = retention.rank(self._metric, (validation or {}).get(self._metric))
    if last:
      self._save_last(step, arrays, files)
      return
    # The thread of the save may change the count, in each process of a job at another moment.
    before = self._failed_in_a_row
    self._saving = Save(self._directory, step, arrays, files, functools.partial(self._ended, step))
    # The failure that ends the run ends it at once, not at the next save.
    if 0 < before >= self._max_failed - 1:
      self.wait()

  def _save_last(self, step: int, arrays: Any, files: Files) -> None:
    """Tries until the step is complete; raises StorageError if that is in vain."""
    for pause in (*_PAUSES, None):
      again = "" if pause is None else f"The next attempt follows in {pause} s."
      self._saving = Save(
        self._directory, step, arrays, files, functools.partial(self._ended, step, again=again)
      )
      self.wait(raises=False)
      if self._latest == step:
        return
      time.sleep(pause or 0)
    raise StorageError(
      self._message(f"The last state of the run, after step {step:,}, is not saved") + " " + _ADVICE
    )

  def wait(self, raises: bool = True) -> None:
    """Returns when everything saved so far is complete or has failed.

    Raises:
      StorageError: too many saves in a row have failed; never if `raises` is False.
    """
    if self._saving is not None:
      self._saving.wait()
      self._saving = None
    if raises and self._failed_in_a_row >= self._max_failed:
      raise StorageError(
        self._message(f"{self._failed_in_a_row} saves in a row failed (MAX_FAILED_SAVES)")
        + " "
        + _ADVICE
      )

  def close(self) -> None:
    """Returns when everything saved so far is complete or has failed."""
    self.wait(raises=False)

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind, *_):
    # Closing waits for all processes of a job. All of them see a loss that is not finite and a full
    # disk; after other errors one may be gone. A second Ctrl-C ends the process at once.
    seen_by_all = kind and issubclass(kind, FloatingPointError | StorageError)
    if kind is None or (issubclass(kind, Exception) and (jax.process_count() == 1 or seen_by_all)):
      self.close()

  def _ended(self, step: int, problem: str | None, again: str | None = None) -> None:
    """Notes how a save ended; may be called in the thread of the save.

    Args:
      again: says when the next attempt is; None if that is the next save of the run, "" if there
        is none and nothing is to be reported.
    """
    if problem is None:
      self._failed_in_a_row, self._latest = 0, step
      if jax.process_index() == 0:
        self._remove_old()
      return
    self._failed_in_a_row += 1
    self.failed_saves += 1
    self._problem = problem
    if again is None:
      continues = self._failed_in_a_row < self._max_failed
      then = (
        "training continues and saves again after SAVE_PERIOD steps" if continues else "it ends"
      )
      again = (
        f"This was failure {self._failed_in_a_row} of MAX_FAILED_SAVES = {self._max_failed} in a "
        f"row: {then}."
      )
    if again and jax.process_index() == 0:
      _warn(f"{self._message(f'Step {step:,} is not saved')} {again}")

  def _message(self, what: str) -> str:
    try:
      newest = max(self.steps(), default=None)
      good = f"the newest complete checkpoint is of step {newest or 0:,}"
      good = good if newest else "there is no complete checkpoint"
    except Exception as error:  # Errors of buckets are no OSErrors.
      good = f"the folder cannot be read ({reason(error)})"
    return f"{what} in {str(self._directory)!r}: {self._problem}; {good}."

  def _remove_old(self) -> None:
    """Removes the checkpoints that need not stay; one that cannot be removed is reported."""
    try:
      steps = self.steps()
      for step in steps:
        if step not in self._ranks:
          folder = self._directory / str(step)
          same = retention.stage_of(folder) == self._stage
          value = retention.validation_value(folder, self._metric) if same else None
          self._ranks[step] = retention.rank(self._metric, value)
      for step in retention.steps_to_remove(steps, self._ranks, self._keep, self._keep_best):
        step_folders.remove(self._directory, step)
    except Exception as error:
      _warn(f"Old checkpoints in {str(self._directory)!r} cannot be removed: {reason(error)}.")


def _warn(text: str) -> None:
  warnings.warn(text, stacklevel=2)
