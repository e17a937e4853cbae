"""The mean of the parameters of several checkpoints of one run, written as a checkpoint.

Vaswani et al. 2017 (section 6.1) evaluate the average of the last 5 checkpoints of their base model
and of the last 20 of their big one. Izmailov et al. 2018 (section 3) reason why it generalises
better than the last checkpoint: the mean of points around an optimum is nearer to its middle. The
optimizer's state is not averaged: the mean is for evaluation, export, or a run of its own.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from t5x_style.checkpoints import reading, saving, verification
from t5x_style.checkpoints.array_pieces import Index
from t5x_style.checkpoints.array_writer import ArrayWriter
from t5x_style.checkpoints.arrays import LazyArray, orbax_arrays
from t5x_style.checkpoints.damage import damage_is_named
from t5x_style.checkpoints.digests import digest_of
from t5x_style.checkpoints.inventory import AVERAGE_OF
from t5x_style.errors import StorageError, UserError, shortened


def open_parameters(steps: Sequence[epath.Path]) -> list[dict[str, LazyArray]]:
  """Opens the parameters of each step.

  Raises:
    UserError: a step is not a whole checkpoint, or its parameters have other names, shapes or
      dtypes than those of the last step; the message names all that differ.
  """
  opened = [orbax_arrays(step / "state", "params", setting="average") for step in steps]
  last = opened[-1]
  wrong = []
  for step, arrays in zip(steps[:-1], opened[:-1], strict=True):
    for name in sorted(arrays.keys() | last.keys()):
      there, here = _described(arrays.get(name)), _described(last.get(name))
      if there != here:
        wrong.append(f"  {name}: step {step.name} has {there}, step {steps[-1].name} {here}")
  if wrong:
    raise UserError(
      "Checkpoints of different models have no mean; these parameters differ:\n"
      + "\n".join(shortened(wrong))
      + "\nName steps of one model with --step."
    )
  return opened


def write_mean(
  steps: Sequence[epath.Path],
  opened: Sequence[Mapping[str, LazyArray]],
  target: Path,
  read: Callable[[int], None] = lambda size: None,
) -> None:
  """Writes the mean of parameters as TARGET/state, and its digests as TARGET/run.

  Sums are taken in float64, and the mean is rounded once to the dtype of the parameter. Parameters
  of integers, which have no mean, are those of the last step. Only one piece of a parameter is in
  memory at a time.

  Args:
    opened: the parameters of each step, as `open_parameters` returns them.
    target: a new folder.
    read: called with the bytes that were just read.

  Raises:
    UserError: a parameter cannot be read, or holds numbers that are not finite.
    StorageError: the mean cannot be written.
  """
  try:
    writer = ArrayWriter(target)
    arrays = _write_parameters(writer, opened, [f"step {step.name}" for step in steps], read)
    run: dict[str, Any] = {AVERAGE_OF: [str(step) for step in steps]}
    if "identity" in (last := reading.read_run_of_parameters(steps[-1])):
      run["identity"] = last["identity"]  # It says what the model is.
    run = verification.signed(run, int(steps[-1].name), arrays, {})
    (target / "run").mkdir()
    (target / "run" / "metadata").write_text(json.dumps(run))
    writer.close()
  except UserError:
    raise
  except Exception as error:
    raise StorageError(f"The average cannot be stored: {saving.reason(error)}.") from error


def _write_parameters(
  writer: ArrayWriter,
  opened: Sequence[Mapping[str, LazyArray]],
  labels: Sequence[str],
  read: Callable[[int], None],
) -> dict[str, Any]:
  """Writes the mean of each parameter; returns what verification.signed needs to know of them."""
  arrays = {}
  for name, last in opened[-1].items():
    keys = ("params", *name.split("/"))
    new = writer.create(keys, last.shape, last.chunk or last.shape, last.dtype)
    write = functools.partial(_write_piece, new, name, opened, labels, read)
    arrays["/".join(keys)] = {
      "dtype": last.dtype.name,
      "shape": list(last.shape),
      # Reads the mean piece by piece, which also writes it.
      "digest": digest_of(dataclasses.replace(last, fetch=write, chunk=last.group)),
    }
  return arrays


def _write_piece(
  new: Any,
  name: str,
  opened: Sequence[Mapping[str, LazyArray]],
  labels: Sequence[str],
  read: Callable[[int], None],
  index: Index,
) -> np.ndarray:
  """Writes a piece of the mean of one parameter, and returns it."""
  new[index] = values = _mean(name, index, opened, labels, read)
  return values


def _mean(
  name: str,
  index: Index,
  opened: Sequence[Mapping[str, LazyArray]],
  labels: Sequence[str],
  read: Callable[[int], None],
) -> np.ndarray:
  """Returns the mean of a piece of one parameter, in the dtype of the parameter."""
  dtype = opened[-1][name].dtype
  if not jnp.issubdtype(dtype, jnp.inexact):
    return _fetch(name, index, opened[-1], labels[-1], read)
  total = np.zeros((), np.float64)
  for arrays, label in zip(opened, labels, strict=True):
    values = _fetch(name, index, arrays, label, read)
    if not np.isfinite(values).all():
      raise UserError(f"{label}: the parameter {name} holds numbers that are not finite.")
    total = total + values.astype(np.float64)
  return (total / len(opened)).astype(dtype)


def _fetch(
  name: str, index: Index, arrays: Mapping[str, LazyArray], label: str, read: Callable[[int], None]
) -> np.ndarray:
  with damage_is_named(f"{label}: the parameter {name} cannot be read"):
    values = arrays[name].fetch(index)
  read(values.nbytes)
  return values


def _described(array: LazyArray | None) -> str:
  return f"{array.dtype.name} {array.shape}" if array else "no such parameter"
