"""Restores the newest good checkpoint of a run, and sets newer ones that are damaged aside.

A damaged checkpoint is renamed to damaged-STEP, once an older one that is good has been restored;
nothing is ever deleted. Errors that say nothing about damage end the start: another run in
MODEL_DIR, a file that may not be read, a bucket that cannot be reached.
"""

import contextlib
import gc
import itertools
import json
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from etils import epath

from t5x_style.checkpoints import inventory, reading, step_folders
from t5x_style.checkpoints.agreement import Agreement
from t5x_style.checkpoints.damage import DamagedError, damage_of, trouble_is_explained
from t5x_style.checkpoints.same_run import check_same_run
from t5x_style.errors import UserError, first_line, shortened
from t5x_style.training import finite_checks, stages
from t5x_style.training.dataset import BatchIterator
from t5x_style.training.setup import Prepared
from t5x_style.training.state import TrainState

T = TypeVar("T")


class Resumed(NamedTuple):
  """What a run needs to resume as if it had never stopped."""

  state: TrainState
  iterator: BatchIterator  # at its place in the data
  progress: dict[str, Any]


def restore(run: Sequence[Prepared]) -> Resumed | None:
  """Restores the newest good checkpoint of MODEL_DIR; None if there are no checkpoints.

  All processes of a job restore the same one, even if a newer one is damaged for one of them only.

  Args:
    run: its stages; a checkpoint is of the stage that trained its step.

  Raises:
    UserError: no checkpoint is good, or they are of another run.
  """
  folder = (run[0].model_dir / "checkpoints").absolute()
  agreement = Agreement()
  found = json.dumps(step_folders.complete_steps(folder))
  steps = json.loads(agreement.of_first("steps", found) or "[]")
  reasons: dict[int, str] = {}
  for step in reversed(steps):
    try:
      prepared = run[stages.at(run, step)]
      resumed = _restore_step(prepared, folder / str(step), agreement)
    except DamagedError as error:
      reasons[step] = str(error)
    else:
      _set_aside(folder, reasons, step, agreement)
      return resumed
    gc.collect()  # Frees the arrays that were read: there may be no memory for two states.
  if reasons:
    lines = [f"  {step}: {reason}" for step, reason in reasons.items()]
    raise UserError(
      f"All checkpoints in {str(folder)!r} are damaged, and nothing was changed there:\n"
      + "\n".join(shortened(lines))
      + "\nRestore one of these folders from a backup. To start from the beginning, move them away "
      "or set another MODEL_DIR."
    )
  return None


def _restore_step(prepared: Prepared, folder: epath.Path, agreement: Agreement) -> Resumed:
  """Restores one checkpoint, in all processes or in none.

  Raises:
    DamagedError: it is damaged, or not finite.
    UserError: it is of another run, or may not be read.
    RuntimeError: it cannot be read for another reason, which says nothing about damage.
  """
  abstract = prepared.abstract

  def read():
    if jax.process_index() and not folder.is_dir():
      raise UserError(f"this process does not see {str(folder)!r}, which process 0 sees")
    with trouble_is_explained(f"The checkpoint {str(folder)!r} cannot be read"):
      run = reading.read_run(folder)
      check_same_run(prepared, run["identity"], run["progress"].get("settings", {}))
      return run, reading.read_streams(folder, run), reading.read_state(folder, run, abstract)

  def check(run, state):
    if prepared.config.verify_checkpoints:
      reading.check_state(run, state)
    state = reading.converted(state, abstract)
    if names := prepared.find_not_finite(state):
      raise DamagedError(f"it holds numbers that are not finite, in {finite_checks.listed(names)}")
    return state

  def iterator(streams):
    result = prepared.dataset.train()
    with damage_of("data/"):
      result.set_state(streams)
    return result

  topic = folder.name
  run, streams, state = _by_all(read, f"{topic}/read", agreement)
  state = _by_all(lambda: check(run, state), f"{topic}/check", agreement)
  place = _by_all(lambda: iterator(streams), f"{topic}/data", agreement)
  return Resumed(state, place, run["progress"])


def _by_all(work: Callable[[], T], topic: str, agreement: Agreement) -> T:
  """Does a piece of work in all processes; if it fails in one of them, it fails in all."""
  error: Exception | None = None
  try:
    result = work()
  except Exception as raised:
    error = raised
  own = str(error) if isinstance(error, DamagedError) else None
  trouble = first_line(error) if error is not None and own is None else None
  trouble = agreement.of_all(f"{topic}/trouble", trouble)
  damage = agreement.of_all(f"{topic}/damage", own)
  if error is not None and not isinstance(error, DamagedError):
    raise error
  if trouble:
    kind = UserError if trouble.startswith(UserError.__name__) else RuntimeError
    raise kind(f"Another process of the job cannot restore the run: {trouble}")
  if damage:
    raise DamagedError(own or damage)
  return result


def _set_aside(
  folder: epath.Path, reasons: dict[int, str], good: int, agreement: Agreement
) -> None:
  """Renames damaged checkpoints, in process 0, and says so; returns when that is done."""

  def rename():
    for step, reason in reasons.items() if jax.process_index() == 0 else ():
      name = _free_name(folder, step)
      with trouble_is_explained(f"The damaged checkpoint of step {step} cannot be renamed"):
        (folder / str(step)).rename(folder / name)
      with contextlib.suppress(OSError):
        (folder / name / inventory.DAMAGE_FILE).write_text(reason)
      warnings.warn(
        f"the checkpoint of step {step:,} is damaged: {reason}. It is now {str(folder / name)!r}, "
        f"and the run resumes from step {good:,}.",
        stacklevel=4,
      )

  if reasons:
    _by_all(rename, "set aside", agreement)


def _free_name(folder: epath.Path, step: int) -> str:
  names = (f"damaged-{step}" + (f"-{i}" if i > 1 else "") for i in itertools.count(1))
  return next(name for name in names if not (folder / name).exists())
