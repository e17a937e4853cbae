"""Which checkpoints --step and --all_steps mean."""

from __future__ import annotations

from typing import Any

from etils import epath

from t5x_style.checkpoints import inventory

from ..checkpoints import steps
from ..process.errors import ConfigurationError


def chosen(folder: epath.Path, values: Any) -> list[epath.Path]:
  """Returns the folders of the requested steps, of which some may not exist.

  Args:
    folder: an `inventory.checkpoints_folder`.
    values: flags with `step` and `all_steps`; without either the newest step is meant.

  Raises:
    ConfigurationError: the folder holds no complete checkpoint, or the flags do not fit it.
  """
  numbers = steps.numbers(values)
  if numbers and values.all_steps:
    raise ConfigurationError("--step and --all_steps contradict each other; give one of them.")
  complete = inventory.complete(folder)
  if not complete:
    raise ConfigurationError(
      f"{folder} holds no complete checkpoint, only unfinished or damaged ones."
    )
  if numbers and complete == [folder]:
    raise ConfigurationError(f"{folder} is one checkpoint already: leave out --step.")
  if numbers:
    return [folder / str(number) for number in numbers]
  return complete if values.all_steps else complete[-1:]
