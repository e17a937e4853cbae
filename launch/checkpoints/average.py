"""Writes the mean of the parameters of several steps as a checkpoint of its own."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from t5x_style.checkpoints import averaging, comparison, inventory, reading
from t5x_style.checkpoints.damage import damage_is_named
from t5x_style.codecs import vocabulary_folder

from ..configuration.flags import quoted
from ..conversion import output_folder
from ..process import environment
from ..process.errors import ConfigurationError
from . import steps
from .output import bytes_of, progress

FLAGS = ("step", "last", "to")
FOLDERS = (1,)

_CONFIG = "config.gin"  # says what the model is


def run(values: Any, folders: Sequence[str]) -> int:
  source = inventory.checkpoints_folder(folders[0])
  target = _target(values.to, source)
  chosen = _chosen(values, folders[0], source)
  opened = averaging.open_parameters(chosen)
  with output_folder.all_or_nothing("--to", target) as part:
    with progress("Averaging", sum(map(comparison.bytes_of, opened))) as read:
      averaging.write_mean(chosen, opened, part, read)
    config = source.parent / _CONFIG
    if has_config := config.exists():
      (part / _CONFIG).write_text(config.read_text())
    _copy_vocabulary(source.parent / vocabulary_folder.FOLDER, part / vocabulary_folder.FOLDER)
  _print_done(target, chosen, opened[-1], has_config)
  return 0


def _copy_vocabulary(source: epath.Path, target: Path) -> None:
  """Copies the folder of the run's vocabulary, if there is one."""
  if source.is_dir():
    target.mkdir()
    for file in source.iterdir():
      (target / file.name).write_bytes(file.read_bytes())


def _target(text: str | None, source: epath.Path) -> Path:
  """Returns the folder to write.

  Raises:
    ConfigurationError: it is not new, or not a place for it.
  """
  if not text:
    raise ConfigurationError("average writes a new folder: give --to=NEW_FOLDER.")
  if "://" in text:
    raise ConfigurationError(
      f"--to={text}: averages are written to a local folder; copy it to the bucket afterwards."
    )
  try:
    target = Path(text).expanduser()
  except RuntimeError as error:  # "~name" of no user
    raise ConfigurationError(f"--to={text}: {error}") from error
  output_folder.check_new("--to", target)
  if "://" not in str(source) and Path(source).resolve() in target.resolve().parents:
    raise ConfigurationError(
      f"--to={text} is among the checkpoints of a run, which only the run may write; choose a "
      "folder elsewhere."
    )
  return target


def _chosen(values: Any, text: str, source: epath.Path) -> list[epath.Path]:
  """Returns the steps to average, the newest last.

  Raises:
    ConfigurationError: the flags name no steps, or fewer than two, or more than there are.
  """
  numbers = steps.numbers(values)
  if bool(numbers) == (values.last is not None):
    raise ConfigurationError(
      "average takes either --last=N, for the N newest steps, or --step=1000,2000, for these steps."
    )
  count = len(numbers) if numbers else values.last
  if count < 2:
    flag = "--step" if numbers else f"--last={count}"
    raise ConfigurationError(f"{flag}: a mean is of two steps or more; name more of them.")
  if numbers:
    chosen = steps.of_folder(text, sorted(numbers))
    for step in chosen:
      if reason := _damage(step):
        raise ConfigurationError(f"--step={step.name}: this step is damaged: {reason}")
    return chosen
  good: list[epath.Path] = []
  for step in reversed(inventory.complete(source)):
    if len(good) == count:
      break
    if reason := _damage(step):
      warnings.warn(f"step {step.name} is damaged, and left out: {reason}", stacklevel=2)
    else:
      good.insert(0, step)
  if len(good) < count:
    there = ", ".join(step.name for step in good) or "none"
    raise ConfigurationError(
      f"--last={count}: {source} holds {len(good)} good steps ({there}). Give a smaller number; "
      "KEEP_CHECKPOINTS of a run says how many it keeps."
    )
  return good


def _damage(step: epath.Path) -> str | None:
  """Reads the parameters of a step; returns why they are damaged, or None."""
  size = bytes_of(step, "params")
  with damage_is_named(f"{step} cannot be read"), progress(f"Verifying {step.name}", size) as read:
    return reading.find_damage(step, read, only="params/")


def _print_done(target: Path, chosen: Sequence[epath.Path], arrays: Any, has_config: bool) -> None:
  numbers = sum(math.prod(array.shape) for array in arrays.values())
  dtypes = ", ".join(sorted({array.dtype.name for array in arrays.values()}))
  names = ", ".join(step.name for step in chosen)
  print(
    f"Averaged the parameters of {len(chosen)} steps ({names}): {numbers:,} numbers in "
    f"{len(arrays)} parameters, {dtypes}."
  )
  start = quoted(f"--gin.INITIAL_CHECKPOINT_PATH='{target.absolute()}'")
  launch = f"python -m {environment.PACKAGE}"
  facts = {
    "parameters": f"{target / 'state'}; the optimizer's state is not averaged",
    "model": f"{target / _CONFIG}, as the run wrote it",
    "start from": f"{launch}.train --gin_file=YOUR_RUN.gin {start}",
    "export": f"{launch}.convert --from {quoted(str(target))} --to hf:FOLDER",
  }
  if not has_config:
    facts["model"] = "the run has no config.gin: launch.convert will need --gin_file"
  for name, fact in facts.items():
    print(f"  {name:11} {fact}")
