"""Opens a run: resumes it from the newest checkpoint of MODEL_DIR, or starts a new one."""

from collections.abc import Sequence
from typing import Any

from t5x_style.checkpoints import initial_vocabulary, newest_good, step_folders
from t5x_style.checkpoints.adapted_start import adapted_params, check_adapted
from t5x_style.checkpoints.manager import Checkpoints
from t5x_style.checkpoints.warm_start import Reader, check_initial, initial_params
from t5x_style.errors import UserError
from t5x_style.training import finite_checks, stages
from t5x_style.training.job import InitialParameters, Job
from t5x_style.training.setup import Prepared
from t5x_style.training.state import TrainState


def open_run(
  prepared: Prepared, readers: Sequence[Reader] = (), later: Sequence[Prepared] = ()
) -> Job:
  """Reads the newest good checkpoint of MODEL_DIR, or makes a new state.

  Args:
    prepared: the run, or its first stage.
    readers: of the foreign checkpoints that INITIAL_CHECKPOINT_PATH may name.
    later: the other stages of the run.

  Raises:
    UserError: the checkpoints are of another run, or all are damaged; or INITIAL_CHECKPOINT_PATH
      does not fit this model.
  """
  every = (prepared, *later)
  resumed = newest_good.restore(every)
  initial = None
  if resumed is not None:
    state, iterator, progress = resumed
  else:
    state, initial = _initial_state(prepared, readers)
    iterator, progress = prepared.dataset.train(), {}
  index = stages.at(every, int(state.step))
  prepared, later = every[index], every[index + 1 :]
  config = prepared.config
  eval_batches = list(prepared.dataset.evaluation(config.eval_batches))
  checkpoints = Checkpoints(
    prepared.model_dir / "checkpoints",
    config.keep_checkpoints,
    config.keep_best_checkpoints,
    config.max_failed_saves,
    config.verify_checkpoints,
    config.best_metric,
  )

  def roll_back() -> tuple[TrainState, dict[str, Any]] | None:
    found = newest_good.restore(every)
    if found is None:
      return None
    checkpoints.rolled_back(int(found.state.step))
    return found.state, found.progress

  first = int(state.step)
  changes = prepared.changes(progress.get("settings", {}), first)
  job = Job(
    prepared,
    checkpoints,
    iterator,
    eval_batches,
    state,
    first,
    progress,
    roll_back,
    changes,
    initial,
    later,
  )
  if later and first == prepared.last_step and not progress.get("evaluation_due"):
    return stages.next_job(job, state, progress)
  return job


def check_start(prepared: Prepared, readers: Sequence[Reader] = ()) -> InitialParameters | None:
  """Raises what `open_run` would about INITIAL_CHECKPOINT_PATH; reads only names and shapes.

  Returns:
    Job.initial of the run.
  """
  config, params, initial = prepared.config, prepared.abstract.params, None
  path, rule = config.initial_checkpoint_path, config.initial_checkpoint_adapt
  if path and step_folders.find_step(prepared.model_dir) is None:
    if rule is None:
      check_initial(path, config.model, params, readers)
    else:
      initial = check_adapted(path, config.model, params, rule, readers)
    initial_vocabulary.check(path, prepared.dataset)
  return initial


def _initial_state(
  prepared: Prepared, readers: Sequence[Reader]
) -> tuple[TrainState, InitialParameters | None]:
  config, initial = prepared.config, None
  state = prepared.init(config.seed)
  if path := config.initial_checkpoint_path:
    model, verify = config.model, config.verify_checkpoints
    if rule := config.initial_checkpoint_adapt:
      params, initial = adapted_params(path, model, state.params, rule, readers, verify)
    else:
      abstract = prepared.abstract.params
      params = initial_params(path, model, abstract, readers, verify, initial=state.params)
    initial_vocabulary.check(path, prepared.dataset)
    if names := finite_checks.make_find_not_finite(prepared.abstract.params)(params):
      raise UserError(
        f"INITIAL_CHECKPOINT_PATH = {path!r} holds numbers that are not finite, in "
        f"{finite_checks.listed(names)}; give an earlier checkpoint."
      )
    state = state.replace(params=params)
  return state, initial
