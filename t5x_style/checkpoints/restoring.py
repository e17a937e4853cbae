"""Opens a run: resumes it from the newest checkpoint of MODEL_DIR, or starts a new one."""

import contextlib
from collections.abc import Sequence
from typing import Any

from t5x_style.checkpoints import step_folders
from t5x_style.checkpoints.damage import damage_is_named
from t5x_style.checkpoints.manager import Checkpoints
from t5x_style.checkpoints.same_run import check_same_run
from t5x_style.checkpoints.warm_start import Reader, check_initial, initial_params
from t5x_style.errors import UserError
from t5x_style.training import finite_checks
from t5x_style.training.dataset import BatchIterator
from t5x_style.training.job import Job
from t5x_style.training.setup import Prepared
from t5x_style.training.state import TrainState


def open_run(prepared: Prepared, readers: Sequence[Reader] = ()) -> Job:
  """Reads the newest checkpoint of MODEL_DIR, or makes a new state.

  Args:
    readers: of the foreign checkpoints that INITIAL_CHECKPOINT_PATH may name.

  Raises:
    UserError: the newest checkpoint is of another run, is damaged, or is not finite; or
      INITIAL_CHECKPOINT_PATH does not fit this model.
  """
  config = prepared.config
  with contextlib.ExitStack() as opened:  # Closed again if the run cannot start.
    checkpoints = opened.enter_context(
      Checkpoints(
        prepared.model_dir / "checkpoints",
        config.keep_checkpoints,
        config.keep_best_checkpoints,
        config.max_failed_saves,
      )
    )
    iterator = prepared.dataset.train()
    if (step := checkpoints.latest()) is not None:
      state, progress = _restored(prepared, checkpoints, iterator, step)
    else:
      state, progress = _initial_state(prepared, readers), {}
    eval_batches = list(prepared.dataset.evaluation(config.eval_batches))
    opened.pop_all()
  first = int(state.step)
  changes = prepared.changes(progress.get("settings", {}), first)
  return Job(prepared, checkpoints, iterator, eval_batches, state, first, progress, changes)


def check_start(prepared: Prepared, readers: Sequence[Reader] = ()) -> None:
  """Raises what `open_run` would about INITIAL_CHECKPOINT_PATH; reads only names and shapes."""
  path = prepared.config.initial_checkpoint_path
  if path and step_folders.find_step(prepared.model_dir) is None:
    check_initial(path, prepared.config.model, prepared.abstract.params, readers)


def _initial_state(prepared: Prepared, readers: Sequence[Reader]) -> TrainState:
  state = prepared.init(prepared.config.seed)
  if path := prepared.config.initial_checkpoint_path:
    params = initial_params(path, prepared.config.model, prepared.abstract.params, readers)
    if names := finite_checks.make_find_not_finite(prepared.abstract.params)(params):
      raise UserError(
        f"INITIAL_CHECKPOINT_PATH = {path!r} holds numbers that are not finite, in "
        f"{finite_checks.listed(names)}; give an earlier checkpoint."
      )
    state = state.replace(params=params)
  return state


def _restored(
  prepared: Prepared, checkpoints: Checkpoints, iterator: BatchIterator, step: int
) -> tuple[TrainState, dict[str, Any]]:
  """Returns the state and the progress of a step; sets the iterator to its place in the data."""
  folder = prepared.model_dir / "checkpoints"
  older = [other for other in checkpoints.steps() if other != step]
  then = f"resume from step {older[-1]}" if older else "start from the beginning"
  label = f"The newest checkpoint, {str(folder / str(step))!r}, cannot be used"
  advice = f"\nMove that folder away (out of {str(folder)!r}) to {then}."
  with damage_is_named(label, advice):
    identity, settings = checkpoints.identity(step), checkpoints.settings(step)
  check_same_run(prepared, identity, settings)
  with damage_is_named(label, advice):
    restored = checkpoints.restore(step, prepared.abstract)
    iterator.set_state(restored.streams)
    if names := prepared.find_not_finite(restored.state):
      raise FloatingPointError(
        f"it holds numbers that are not finite, in {finite_checks.listed(names)}."
      )
  return restored.state, restored.progress
