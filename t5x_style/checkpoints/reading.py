"""Reads the parts of a checkpoint, each process of a job for itself.

Nothing here waits for other processes, so that one that cannot read its part leaves no other one
waiting: newest_good.py lets them agree. All functions raise DamagedError if what they read is
damaged, and leave the errors that say nothing about damage as they are.
"""

import concurrent.futures
import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.struct
import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from t5x_style.checkpoints import orbax_noise, step_folders, verification
from t5x_style.checkpoints.array_pieces import Index
from t5x_style.checkpoints.arrays import LazyArray, orbax_arrays
from t5x_style.checkpoints.damage import DamagedError, damage_of, means_damage
from t5x_style.checkpoints.digests import digest_of, digests
from t5x_style.errors import UserError
from t5x_style.training import finite_checks
from t5x_style.training.guard import Guard
from t5x_style.training.state import TrainState

_THREADS = 8  # that read arrays to verify them; each holds up to 64 MiB


class Arrays(flax.struct.PyTreeNode):
  """The parts of a TrainState that are stored as arrays; its small guard is stored as JSON."""

  step: Any
  params: Any
  opt_state: Any
  rng: Any

  @classmethod
  def of(cls, state: TrainState) -> "Arrays":
    return cls(state.step, state.params, state.opt_state, state.rng)


def read_run(folder: epath.Path) -> dict[str, Any]:
  """Returns the item `run`: JSON with "identity", "progress" and digests, which are compared."""
  found = _names(folder, "its folder")
  for item in ("state", "data", "run"):
    if item not in found:
      raise DamagedError(f"{item}/ is missing" if found else "its folder is empty")
    if not _names(folder / item, f"{item}/") and item != "data":
      raise DamagedError(f"{item}/ is empty")
  return _read_run(folder)


def read_run_of_parameters(folder: epath.Path) -> dict[str, Any]:
  """Returns the item `run` where only the parameters are needed; {} if there is none.

  Averages have no place in the data, and checkpoints that other programs write have no `run`.
  """
  return _read_run(folder) if (folder / "run" / "metadata").exists() else {}


def read_streams(folder: epath.Path, run: dict[str, Any]) -> dict[str, bytes]:
  """Returns the places in the data by stream; those that `run` has digests of are compared."""
  with damage_of("data/"):
    streams = {
      path.name: path.read_bytes()
      for path in (folder / "data").iterdir()
      if path.name != step_folders.COMMIT_MARKER  # Orbax's CheckpointManager wrote it there.
    }
  verification.check_streams(run, streams)
  return streams


def read_state(folder: epath.Path, run: Mapping[str, Any], abstract: TrainState) -> TrainState:
  """Reads the state into the shapes and shardings of `abstract`, in the dtypes that are stored."""
  arrays = verification.as_stored(run, Arrays.of(abstract))
  handler = ocp.StandardCheckpointHandler()
  orbax_noise.silence()
  with damage_of("state/"):
    arrays = handler.restore(_state_folder(folder), args=ocp.args.StandardRestore(arrays))
  verification.check_step(int(arrays.step), folder)
  with damage_of("run/metadata"):
    # Checkpoints from before there was a guard have none.
    guard = Guard.from_json(run.get("guard") or Guard.new().as_json(), abstract.guard)
  return TrainState(arrays.step, arrays.params, arrays.opt_state, arrays.rng, guard)


def _state_folder(folder: epath.Path) -> epath.Path:
  return folder.absolute() / "state"  # Orbax refuses relative paths.


def check_state(run: Mapping[str, Any], state: TrainState) -> None:
  """Raises DamagedError if a state is not what was saved; all processes of a job call it together.

  Args:
    state: as `read_state` returned it.
  """
  verification.check_arrays(run, digests(Arrays.of(state)))


def converted(arrays: Any, abstract: Any) -> Any:
  """Returns a tree of arrays in the dtypes of `abstract`, which may have changed since the save."""
  return jax.tree.map(lambda x, to: x.astype(to.dtype), arrays, abstract)


def read_params(folder: epath.Path, abstract: Any, verify: bool = True) -> Any:
  """Reads only the parameters of a step; their shapes must be those of `abstract`."""
  run = read_run_of_parameters(folder) if verify else {}
  stored = verification.as_stored(run, {"params": abstract})
  # Only the parameters are read: the optimizer's state may be another optimizer's.
  args = ocp.args.PyTreeRestore(
    stored,
    restore_args=ocp.checkpoint_utils.construct_restore_args(stored),
    partial_restore=True,
  )
  orbax_noise.silence()
  with damage_of("state/"):
    params = ocp.PyTreeCheckpointer().restore(_state_folder(folder), args=args)
  verification.check_arrays(run, digests(params) if run else {})
  return converted(params["params"], abstract)


def check_params(folder: epath.Path) -> None:
  """Reads the parameters of a step on the host, and compares them with their digests, if any."""
  if verification.KEY in (run := read_run_of_parameters(folder)):
    arrays = orbax_arrays(folder / "state", "params")
    _check_on_the_host(run, {f"params/{name}": array for name, array in arrays.items()})


def find_damage(
  folder: epath.Path, read: Callable[[int], None] = lambda size: None, only: str = ""
) -> str | None:
  """Reads all of a checkpoint on the host; returns why it is damaged, or None.

  A checkpoint without digests only has to be readable and finite, one that is not a step of a run
  may hold only arrays.

  Args:
    read: called with the bytes of arrays that were just read.
    only: of the arrays, reads those whose names begin so, such as "params/".
  """
  try:
    run = read_run(folder) if folder.name.isdigit() else read_run_of_parameters(folder)
    if (folder / "data").is_dir():
      read_streams(folder, run)
    try:
      arrays = orbax_arrays(folder / "state", None, setting="The checkpoint")
    except UserError as error:
      if error.__cause__ is None or not means_damage(error.__cause__):
        raise
      raise DamagedError("_METADATA or _sharding in state/ is not what was saved") from error
    verification.check_names(run, arrays)
    _check_array_metadatas(folder / "state", arrays)
    with damage_of("the array step in state/"):
      if "step" in arrays:
        verification.check_step(int(arrays["step"].read()), folder)
    kept = {name: array for name, array in arrays.items() if name.startswith(only)}
    _check_on_the_host(run, kept, read)
  except DamagedError as error:
    return str(error)
  return None


def _read_run(folder: epath.Path) -> dict[str, Any]:
  with damage_of("run/metadata"):
    run = json.loads((folder / "run" / "metadata").read_bytes())
  verification.check_run(run, folder)
  return run


def _check_on_the_host(
  run: Mapping[str, Any],
  arrays: Mapping[str, LazyArray],
  read: Callable[[int], None] = lambda size: None,
) -> None:
  """Raises DamagedError if arrays cannot be read, are not finite, or have other digests."""

  def digest(name: str) -> str:
    with damage_of(f"the array {name} in state/"):
      return digest_of(dataclasses.replace(arrays[name], fetch=functools.partial(fetch, name)))

  def fetch(name: str, index: Index) -> np.ndarray:
    values = arrays[name].fetch(index)
    read(values.nbytes)
    if values.dtype.kind not in "iub" and not np.isfinite(values).all():
      not_finite.add(name)
    return values

  not_finite: set[str] = set()
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
    found = dict(zip(arrays, threads.map(digest, arrays), strict=True))
  verification.check_arrays(run, found)
  if not_finite:
    names = finite_checks.listed(sorted(not_finite))
    raise DamagedError(f"it holds numbers that are not finite, in {names}")


def _check_array_metadatas(state: epath.Path, names: Iterable[str]) -> None:
  """Raises DamagedError if files that only Orbax reads do not list every array."""
  files = list((state / "array_metadatas").glob("*"))
  with damage_of("state/array_metadatas/"):
    entries = [entry for file in files for entry in json.loads(file.read_bytes())[file.parent.name]]
    listed = {entry["array_metadata"]["param_name"] for entry in entries}
  if files and not listed >= {name.replace("/", ".") for name in names}:
    raise DamagedError("state/array_metadatas/ does not list all arrays")


def _names(folder: epath.Path, label: str) -> set[str]:
  """Returns the names in a folder."""
  try:
    return {path.name for path in folder.iterdir()}
  except FileNotFoundError:
    raise DamagedError(f"{label} is missing") from None
  except NotADirectoryError:
    raise DamagedError(f"{label} is a file, not a folder") from None
