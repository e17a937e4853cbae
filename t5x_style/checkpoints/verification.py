"""Digests inside a checkpoint: its arrays, its places in the data, its JSON and its step.

The item `run`, a file of JSON, is written in the same commit as all the others. It holds

    "digests": {
      "step": 1000,
      "arrays": {"params/...": {"dtype": "float32", "shape": [32, 64], "digest": "..."}, ...},
      "streams": {"stream_00000": SHA-256, ...},
      "run": SHA-256 of all of this JSON but itself
    }

So a state, a place in the data and a description of the run that were not saved together are found,
and so is a single bit that changed. Checkpoints of earlier versions hold no digests.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from t5x_style.checkpoints.damage import DamagedError
from t5x_style.checkpoints.digests import digests
from t5x_style.training import finite_checks
from t5x_style.training.state import named_leaves

KEY = "digests"  # in the item `run`
_REQUIRED = {"identity", "progress"}
_KNOWN = _REQUIRED | {
  "guard",
  "validation_loss",
  "validation",
  "best_metric",
}  # what `run` holds without digests


def with_digests(
  run: Mapping[str, Any], step: int, state: Any, streams: Mapping[str, bytes]
) -> dict[str, Any]:
  """Returns the item `run` with the digests of all that is saved together with it.

  All processes of a job have to call this together.

  Args:
    run: JSON.
    state: all arrays of the checkpoint, on the devices.
    streams: those that this process saves.
  """
  found = digests(state)
  arrays = {
    name: {"dtype": str(x.dtype), "shape": list(x.shape), "digest": found[name]}
    for name, x in named_leaves(state).items()
  }
  sums = {name: _sha256(place) for name, place in streams.items()}
  return signed(run, step, arrays, _of_all_processes(sums))


def signed(
  run: Mapping[str, Any], step: int, arrays: Mapping[str, Any], streams: Mapping[str, str]
) -> dict[str, Any]:
  """Returns the item `run` with digests that are computed already.

  Args:
    arrays: {"params/...": {"dtype": ..., "shape": ..., "digest": ...}}.
    streams: the SHA-256 of each.
  """
  result = {**run, KEY: {"step": step, "arrays": dict(arrays), "streams": dict(streams)}}
  result[KEY]["run"] = _digest_of_run(result)
  return result


def check_run(run: Any, folder: epath.Path) -> None:
  """Raises DamagedError if the item `run` is not what was saved in the checkpoint `folder`."""
  keys = run.keys() if isinstance(run, dict) else set()
  if KEY not in keys:
    whole = _REQUIRED <= keys <= _KNOWN and all(isinstance(run[key], dict) for key in _REQUIRED)
    if not whole:
      raise DamagedError("run/metadata is not what a run saves")
    return
  saved = run[KEY]
  if not isinstance(saved, dict) or saved.get("run") != _digest_of_run(run):
    raise DamagedError("run/metadata is not what was saved: its digest is another one")
  if folder.name.isdigit() and saved["step"] != int(folder.name):
    raise DamagedError(f"it is the checkpoint of step {saved['step']} under another name")


def check_streams(run: Mapping[str, Any], streams: Mapping[str, bytes]) -> None:
  """Raises DamagedError if the places in the data are not those that were saved with `run`."""
  if KEY not in run:
    return
  saved = run[KEY]["streams"]
  wrong = [f"data/{name} is missing" for name in sorted(saved.keys() - streams.keys())]
  for name, place in sorted(streams.items()):
    if name not in saved:
      wrong.append(f"data/{name} was not saved with it")
    elif _sha256(place) != saved[name]:
      wrong.append(f"data/{name}, a place in the data, is not the one that was saved with it")
  if wrong:
    raise DamagedError(finite_checks.listed(wrong))


def check_step(step: int, folder: epath.Path) -> None:
  """Raises DamagedError if the state of step `step` is in the folder of another one."""
  if folder.name.isdigit() and step != int(folder.name):
    raise DamagedError(f"state/ is of step {step}")


def check_names(run: Mapping[str, Any], names: Iterable[str]) -> None:
  """Raises DamagedError if arrays that were saved with `run` are not among `names`."""
  if missing := sorted(run.get(KEY, {}).get("arrays", {}).keys() - set(names)):
    raise DamagedError(
      f"state/ does not list {len(missing)} of its arrays: {finite_checks.listed(missing)}"
    )


def check_arrays(run: Mapping[str, Any], found: Mapping[str, str]) -> None:
  """Raises DamagedError if arrays are not those that were saved with `run`.

  Args:
    found: the digests of some or all arrays of the checkpoint.
  """
  if KEY not in run:
    return
  saved = {name: array["digest"] for name, array in run[KEY]["arrays"].items()}
  wrong = sorted(name for name in found if found[name] != saved.get(name))
  if wrong:
    raise DamagedError(
      f"{len(wrong)} of {len(found)} arrays in state/ are not what was saved: "
      f"{finite_checks.listed(wrong)}"
    )


def as_stored(run: Mapping[str, Any], abstract: Any) -> Any:
  """Returns an abstract tree with the dtypes in which a checkpoint holds its arrays.

  The setting of a dtype may have changed since: the digests are those of the stored numbers.
  """
  saved = run.get(KEY, {}).get("arrays", {})
  leaves = [
    jax.ShapeDtypeStruct(
      x.shape, np.dtype(saved.get(name, {}).get("dtype", x.dtype)), sharding=x.sharding
    )
    for name, x in named_leaves(abstract).items()
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _digest_of_run(run: Mapping[str, Any]) -> str:
  """Returns the SHA-256 of all of the JSON but this digest itself."""
  rest = {**run, KEY: {name: x for name, x in run[KEY].items() if name != "run"}}
  # Read back once, because a dictionary may have keys that are no strings before it is JSON.
  return _sha256(json.dumps(json.loads(json.dumps(rest)), sort_keys=True).encode())


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def _of_all_processes(texts: Mapping[str, str]) -> dict[str, str]:
  """Returns the dictionaries of all processes as one."""
  if jax.process_count() == 1:
    return dict(texts)
  own = np.frombuffer(json.dumps(dict(texts)).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(own.size))
  padded = np.zeros(sizes.max(), np.uint8)
  padded[: own.size] = own
  every = multihost_utils.process_allgather(padded)
  result: dict[str, str] = {}
  for row, size in zip(every, sizes, strict=True):
    result |= json.loads(row[:size].tobytes())
  return result
