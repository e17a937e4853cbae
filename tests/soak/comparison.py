"""Compares two runs: all numbers that they saved and recorded have to be equal, to the bit."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# What a record or a checkpoint says about the speed of the machine.
TIMES = ("tokens_per_second", "data_wait", "seconds", "mfu")
# (streams of a checkpoint) -> the batches that follow.
NextBatches = Callable[[Mapping[str, bytes]], list[dict[str, np.ndarray]]]

_reading = threading.Lock()  # Orbax reads in an event loop of its own.


def differences(
  reference: Path,
  other: Path,
  next_batches: NextBatches | None = None,
  may_differ: Sequence[str] = (),
) -> list[str]:
  """Returns one line for each difference between two MODEL_DIRs, [] if there is none.

  Compared are the arrays of every checkpoint that both have, and the newest one of the reference,
  which has to be the newest of the other, too; the position in the data there, what else the
  checkpoint holds, and all lines of metrics.jsonl in their order.

  Args:
    reference: MODEL_DIR of an undisturbed run.
    other: MODEL_DIR of the run to judge.
    next_batches: compares positions in the data whose bytes differ: they may hold more or fewer
      batches that were prepared ahead. None: their bytes have to be equal.
    may_differ: entries of records that are not compared.
  """
  found = [*_record_differences(reference, other, may_differ)]
  steps, others = saved_steps(reference), saved_steps(other)
  if not others or others[-1] != steps[-1]:
    return [*found, f"the newest checkpoint is {others[-1:]}, not {steps[-1:]}"]
  for step in sorted({*steps} & {*others}):
    a, b = (arrays(model_dir, step) for model_dir in (reference, other))
    found += [f"step {step}: {line}" for line in array_differences(a, b)]
  last = steps[-1]
  a, b = (_progress(model_dir, last) for model_dir in (reference, other))
  if a != b:
    found.append(f"step {last}: the progress saved is {b}, not {a}")
  return [*found, *_position_differences(reference, other, last, next_batches)]


def saved_steps(model_dir: Path) -> list[int]:
  """Returns the steps of the complete checkpoints."""
  folder = model_dir / "checkpoints"
  names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
  return sorted(int(name) for name in names if name.isdigit())


def arrays(model_dir: Path, step: int) -> dict[str, np.ndarray]:
  """Returns {path: array} of the state that was saved at a step: parameters, moments, counts."""
  import jax
  import orbax.checkpoint as ocp

  state = model_dir / "checkpoints" / str(step) / "state"
  with _reading:
    checkpointer = ocp.PyTreeCheckpointer()
    names = checkpointer.metadata(state).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), names)
    tree = checkpointer.restore(state, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def array_differences(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> list[str]:
  """Returns a line for each array that only one has, or whose bits differ."""
  found = []
  for name in sorted({*a, *b}):
    if name not in a or name not in b:
      found.append(f"only one has {name}")
    elif a[name].dtype != b[name].dtype or a[name].shape != b[name].shape:
      found.append(f"{name} has another shape or dtype")
    elif a[name].tobytes() != b[name].tobytes():
      found.append(f"{name} differs")
  return found


def not_finite(model_dir: Path) -> list[str]:
  """Returns the arrays of all checkpoints that hold a number that is not finite."""
  return [
    f"{step}: {name}"
    for step in saved_steps(model_dir)
    for name, array in arrays(model_dir, step).items()
    if not np.isfinite(array.astype(np.float64)).all()
  ]


def records(log: Path) -> list[dict[str, Any]]:
  """Returns the records of metrics.jsonl without times.

  Raises:
    ValueError: a line is no record.
  """
  return [without_times(json.loads(line)) for line in log.read_text().splitlines()]


def last_step(log: Path) -> int:
  """Returns the step of the last complete record in metrics.jsonl, 0 if there is none."""
  try:
    lines = log.read_bytes().split(b"\n")[:-1]
    return max((json.loads(line)["step"] for line in lines[-3:]), default=0)
  except (OSError, ValueError):
    return 0  # The file is being written.


def without_times(value: Any) -> Any:
  """Returns JSON without the entries about the speed of the machine."""
  if not isinstance(value, dict):
    return value
  return {k: without_times(v) for k, v in value.items() if k not in TIMES}


def _record_differences(reference: Path, other: Path, may_differ: Sequence[str]) -> Iterable[str]:
  try:
    expected, got = (records(x / "metrics.jsonl") for x in (reference, other))
  except ValueError as error:
    return [f"metrics.jsonl: a line is no record ({error})"]
  for record in (*expected, *got):
    for name in may_differ:
      record.pop(name, None)
  if expected == got:
    return []
  places = [[(r["step"], r["split"]) for r in found] for found in (expected, got)]
  double = sorted({place for place in places[1] if places[1].count(place) > 1})
  missing = [place for place in places[0] if place not in places[1]]
  added = [place for place in places[1] if place not in places[0]]
  changed = [
    f"{(a['step'], a['split'])}: {b} for {a}" for a, b in zip(expected, got, strict=False) if a != b
  ]
  for what, found in (("double", double), ("missing", missing), ("added", added)):
    if found:
      return [f"metrics.jsonl: {len(found)} records are {what}, such as {found[0]}"]
  return [f"metrics.jsonl: {changed[0]}"]


def _progress(model_dir: Path, step: int) -> Any:
  """Returns what the loop saved beside the state: averages that are not recorded yet."""
  text = (model_dir / "checkpoints" / str(step) / "run" / "metadata").read_text()
  return without_times(json.loads(text)["progress"])


def _position_differences(
  reference: Path, other: Path, step: int, next_batches: NextBatches | None
) -> list[str]:
  a, b = (streams(model_dir, step) for model_dir in (reference, other))
  if a == b:
    return []
  if a.keys() == b.keys() and next_batches:
    equal = all(
      x.keys() == y.keys() and not array_differences(x, y)
      for x, y in zip(next_batches(a), next_batches(b), strict=True)
    )
    if equal:
      return []
  return [f"step {step}: the position in the data differs"]


def streams(model_dir: Path, step: int) -> dict[str, bytes]:
  """Returns the position in the data that was saved at a step."""
  folder = model_dir / "checkpoints" / str(step) / "data"
  return {path.name: path.read_bytes() for path in folder.glob("stream_*")}
