"""Reads the parameters of checkpoints of this package, and what they say about their model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
from etils import epath

from t5x_style.checkpoints import inventory, reading
from t5x_style.checkpoints.damage import DamagedError, trouble_is_explained
from t5x_style.errors import UserError, shortened
from t5x_style.models import TransformerConfig
from t5x_style.models.config import config_of_json
from t5x_style.models.parameter_shapes import boxed_parameters
from t5x_style.partitioning import Partitioner

T = TypeVar("T")


class Facts(NamedTuple):
  """What a checkpoint says about its model."""

  config: TransformerConfig
  data: dict[str, Any]  # of the identity of the run: vocabulary, lengths, components
  step: int | None


def candidates(path: epath.Path, step: int | None) -> list[epath.Path]:
  """Returns the complete checkpoints that a path means, the newest first.

  Args:
    path: a MODEL_DIR, its checkpoints folder, or one checkpoint.
    step: only this one.

  Raises:
    UserError: there are none, or not this one; or the path is one whose save was interrupted.
  """
  folder = inventory.checkpoints_folder(path)
  found = inventory.complete(folder)[::-1]
  is_one = (folder / "state").is_dir()
  if step is not None:
    there = [x.name for x in found]
    if is_one and there != [str(step)]:
      raise UserError(f"step={step}: {str(path)!r} is one checkpoint; give its MODEL_DIR.")
    found = [x for x in found if x.name == str(step)]
    if not found:
      raise UserError(
        f"step={step}: {str(folder)!r} has no complete checkpoint of this step; it has "
        f"{', '.join(shortened(there)) or 'none'}."
      )
  if not found:
    raise UserError(
      f"{str(path)!r} holds no complete checkpoint: the save of those in it was interrupted."
    )
  return found


def newest_good(found: list[epath.Path], read: Callable[[epath.Path], T]) -> T:
  """Returns what `read` returns for the first checkpoint that is not damaged; changes nothing.

  Raises:
    UserError: all are damaged, or one may not be read.
  """
  reasons: list[str] = []
  for folder in found:
    try:
      with trouble_is_explained(f"The checkpoint {str(folder)!r} cannot be read"):
        result = read(folder)
    except DamagedError as error:
      reasons.append(f"  {folder.name}: {error}")
      continue
    if reasons:
      warnings.warn(
        f"step {folder.name} is used, as newer checkpoints are damaged:\n" + "\n".join(reasons),
        stacklevel=3,
      )
    return result
  raise UserError(
    f"What was asked for in {str(found[0].parent)!r} is damaged:\n"
    + "\n".join(shortened(reasons))
    + "\nGive another step, or restore the folder from a backup."
  )


def facts(folder: epath.Path) -> Facts | None:
  """Returns what a checkpoint says about its model; None if it says nothing.

  Raises:
    DamagedError: it is not what was saved.
    UserError: its model has settings that this version does not know.
  """
  run = reading.read_run_of_parameters(folder)
  for source in run.get(inventory.AVERAGE_OF, ()) if "identity" not in run else ():
    # Averages of an earlier version only say what they are of.
    if (epath.Path(source) / "run" / "metadata").exists():
      run = {**run, **reading.read_run_of_parameters(epath.Path(source))}
      break
  if "identity" not in run:
    return None
  identity = run["identity"]
  step = int(folder.name) if folder.name.isdigit() else None
  return Facts(config_of_json(identity["model"], str(folder)), identity["data"], step)


def abstract_params(config: TransformerConfig, partitioner: Partitioner) -> Any:
  """Returns the parameters of a model as abstract arrays with their shardings."""
  boxed = boxed_parameters(config)
  return jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    nn.meta.unbox(boxed),
    partitioner.params(boxed),
  )
