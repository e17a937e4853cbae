"""Checkpoints through Orbax: the state, the place in the data, and the identity of the run."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import flax.struct
import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as managers

from t5x_style.training.guard import Guard
from t5x_style.training.job import Restored
from t5x_style.training.state import TrainState

# Stores arrays in chunks of at most 64 MiB, so that one layer of a stack can be read without the
# others: by default a whole stack of layers is one chunk.
_CHUNKED = ocp.SaveArgs(chunk_byte_size=1 << 26)


class _Arrays(flax.struct.PyTreeNode):
  """The parts of a TrainState that are stored as arrays; its small guard is stored as JSON."""

  step: Any
  params: Any
  opt_state: Any
  rng: Any

  @classmethod
  def of(cls, state: TrainState) -> "_Arrays":
    return cls(state.step, state.params, state.opt_state, state.rng)


class Checkpoints:
  """The checkpoints of one run. They are saved in the background; the newest and the best stay.

  Layout: DIRECTORY/STEP/{state, data, run}. A checkpoint gets its name only when it is complete, so
  a process that is killed while it saves leaves the older ones untouched.
  """

  def __init__(self, directory: str | epath.Path, keep: int = 3, keep_best: int = 1):
    """Opens the directory, which the first save makes.

    Args:
      directory: local or gs:// path.
      keep: how many of the newest checkpoints stay.
      keep_best: how many with the lowest validation loss stay in addition.
    """
    policy = managers.AnyPreservationPolicy(
      [
        managers.LatestN(keep),
        managers.BestN(
          get_metric_fn=lambda metrics: metrics["loss"],
          reverse=True,
          n=keep_best,
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      epath.Path(directory).absolute(),
      item_handlers={
        "state": ocp.StandardCheckpointHandler(),
        "data": _StreamsHandler(),
        "run": ocp.JsonCheckpointHandler(),
      },
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy, cleanup_tmp_directories=True
      ),
    )

  def latest(self) -> int | None:
    """Returns the step of the newest complete checkpoint, None if there is none."""
    return self._manager.latest_step()

  def steps(self) -> list[int]:
    return sorted(self._manager.all_steps())

  def save(
    self,
    state: TrainState,
    streams: dict[str, bytes],
    *,
    identity: dict[str, Any],
    progress: dict[str, Any],
    validation_loss: float | None = None,
  ) -> None:
    """Saves under the state's own step; returns once the arrays are copied off the device."""
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    arrays = _Arrays.of(state)
    run = {"identity": identity, "progress": progress, "guard": state.guard.as_json()}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(arrays, jax.tree.map(lambda _: _CHUNKED, arrays)),
        data=_SaveStreams(streams),
        run=ocp.args.JsonSave(run),
      ),
      metrics=None if validation_loss is None else {"loss": validation_loss},
      force=True,
    )

  def identity(self, step: int) -> dict[str, Any]:
    """Returns Prepared.identity() of the run that saved this step."""
    return self._run(step)["identity"]

  def settings(self, step: int) -> dict[str, Any]:
    """Returns Prepared.settings() of the run that saved this step; {} if it is too old."""
    return self._run(step)["progress"].get("settings", {})

  def restore(self, step: int, abstract: TrainState) -> Restored:
    """Reads a checkpoint into the shapes, dtypes and shardings of `abstract`."""
    args = ocp.args.Composite(
      state=ocp.args.StandardRestore(_Arrays.of(abstract)),
      data=_RestoreStreams(),
      run=ocp.args.JsonRestore(),
    )
    with _only_the_first_failure():
      items = self._manager.restore(step, args=args)
    arrays, run = items["state"], items["run"]
    # Checkpoints from before there was a guard have none.
    saved = run.get("guard") or Guard.new().as_json()
    guard = Guard.from_json(saved, abstract.guard)
    state = TrainState(arrays.step, arrays.params, arrays.opt_state, arrays.rng, guard)
    return Restored(state, items["data"], run["progress"])

  def wait(self) -> None:
    """Returns when everything saved so far is complete; raises what a background save raised."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Returns when everything saved so far is complete, and releases what reads and writes it."""
    self._manager.close()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind, *_):
    # Closing waits for all processes of a job. A loss that is not finite is seen by all of them;
    # after other errors one of them may be gone. A second Ctrl-C ends the process at once.
    by_all = jax.process_count() == 1 or (kind and issubclass(kind, FloatingPointError))
    if kind is None or (issubclass(kind, Exception) and by_all):
      self.close()

  def _run(self, step):
    return self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]


def restore_params(step_dir: epath.Path, abstract: Any) -> Any:
  """Reads only the parameters of a step; their shapes must be those of `abstract`."""
  # Only the parameters are read: the optimizer's state may be another optimizer's.
  args = ocp.args.PyTreeRestore(
    {"params": abstract},
    restore_args={"params": ocp.checkpoint_utils.construct_restore_args(abstract)},
    partial_restore=True,
  )
  with _only_the_first_failure():
    return ocp.PyTreeCheckpointer().restore(step_dir / "state", args=args)["params"]


@contextlib.contextmanager
def _only_the_first_failure() -> Iterator[None]:
  """Prevents tracebacks of the reads that are still running when one has failed.

  Orbax raises an error at the first array that it cannot read. The threads that read other arrays
  then fail as well, or find no event loop, and Python would print that.
  """
  previous = sys.unraisablehook

  def hook(unraisable):
    text = str(unraisable.exc_value)
    if "Event loop is closed" not in text and "TensorStore" not in text:
      previous(unraisable)

  sys.unraisablehook = hook
  yield
  sys.unraisablehook = previous  # After a failure the threads still run for a while.


def find_step(path: epath.Path) -> epath.Path | None:
  """Returns the newest complete step of a MODEL_DIR or checkpoints folder, None if there is none.

  If `path` is a step, returns it.
  """
  if (path / "state").exists():
    return path
  for folder in [folder for folder in (path / "checkpoints", path) if folder.is_dir()]:
    # On gs:// a step has its name before it is complete; Orbax knows which ones are.
    steps = [folder / str(step) for step in sorted(ocp.utils.checkpoint_steps(folder))]
    complete = [step for step in steps if (step / "state").exists()]
    if complete:
      return complete[-1]
  return None


class _StreamsHandler(ocp.CheckpointHandler):
  """The places in the data: a small file per stream, which each process that reads it writes."""

  def save(self, directory: epath.Path, args: "_SaveStreams") -> None:
    for name, place in args.item.items():
      # Processes that read the same stream write the same bytes, and each a whole file.
      part = directory / f"{name}.{jax.process_index()}.part"
      part.write_bytes(place)
      part.replace(directory / name)

  def restore(self, directory: epath.Path, args: "_RestoreStreams | None" = None):
    return {path.name: path.read_bytes() for path in directory.iterdir()}

  def metadata(self, directory: epath.Path):
    return None


@ocp.args.register_with_handler(_StreamsHandler, for_save=True)
@dataclasses.dataclass
class _SaveStreams(ocp.args.CheckpointArgs):
  item: dict[str, bytes]


@ocp.args.register_with_handler(_StreamsHandler, for_restore=True)
@dataclasses.dataclass
class _RestoreStreams(ocp.args.CheckpointArgs):
  item: Any = None
