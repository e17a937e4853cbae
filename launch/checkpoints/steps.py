"""Which checkpoints the words and flags of a command line mean."""

from collections.abc import Sequence
from typing import Any

from etils import epath

from t5x_style.checkpoints import inventory

from ..process.errors import ConfigurationError


def numbers(values: Any) -> list[int]:
  """Returns the steps that --step names, in the given order.

  Raises:
    ConfigurationError: a word is no step, or a step is named twice.
  """
  words = [word.strip() for text in values.step for word in text.split(",")]
  wrong = [word for word in words if not (word.isascii() and word.isdigit())]
  if wrong:
    raise ConfigurationError(
      f"--step={wrong[0]} is no step; write a number, such as --step=1000, or --step=1000,2000."
    )
  found = [int(word) for word in words]
  twice = [number for number in found if found.count(number) > 1]
  if twice:
    raise ConfigurationError(f"--step={twice[0]} is given twice.")
  return found


def of_folder(text: str, wanted: Sequence[int]) -> list[epath.Path]:
  """Returns the steps of a folder that are wanted, or, if none is named, all of them.

  Args:
    text: a MODEL_DIR, its checkpoints folder, or one checkpoint.
    wanted: numbers of steps.

  Returns:
    Their folders, in the order of `wanted`; all complete ones with the newest last.

  Raises:
    UserError: there is no such step.
  """
  folder = inventory.checkpoints_folder(text)
  complete = inventory.complete(folder)
  if not wanted:
    return complete
  if complete == [folder]:
    raise ConfigurationError(f"{text} is one checkpoint already: leave out --step.")
  by_number = {int(path.name): path for path in complete}
  missing = [number for number in wanted if number not in by_number]
  if missing:
    there = ", ".join(map(str, by_number)) or "none"
    raise ConfigurationError(
      f"--step={missing[0]}: {folder} holds no complete checkpoint of this step; the steps there: "
      f"{there}."
    )
  return [by_number[number] for number in wanted]


def newest(text: str) -> epath.Path:
  """Returns the newest complete step of a folder.

  Raises:
    UserError: there is none.
  """
  found = of_folder(text, [])
  if not found:
    raise ConfigurationError(
      f"{text} holds no complete checkpoint, only unfinished or damaged ones."
    )
  return found[-1]
