"""Which batch of its data a run on token caches trained on at a step, also after rollbacks."""

from __future__ import annotations

import json

from etils import epath

from t5x_style.errors import UserError

_PLACE = "data/stream_00000"  # in a checkpoint, as t5x_style.data.random_access.batches writes it


def batch_of_step(
  model_dir: epath.Path, step: int, *, first: int, last: int, save_period: int
) -> int:
  """Returns the number of a batch, from 0, in the data of the stage of a step.

  A rollback restores a checkpoint but not its place in the data, so the steps after it read later
  batches than their numbers say. The checkpoints around a step have their places, and so say how
  many batches were left out before it.

  Args:
    step: from 1.
    first, last: the steps before the stage, and at its end.
    save_period: SAVE_PERIOD of the run.

  Raises:
    UserError: the run has rolled back, and the checkpoints that would say when are not there.
  """
  straight = step - 1 - first
  records = model_dir / "metrics.jsonl"
  if not records.exists() or '"rollbacks"' not in records.read_text():
    return straight
  left_out = {first: 0} | _left_out(model_dir / "checkpoints", first, last)
  before = max(number for number in left_out if number < step)
  after = min((number for number in left_out if number >= step), default=None)
  if after is not None and left_out[before] == left_out[after]:
    return straight + left_out[after]
  if after is not None and (after - 1) // save_period <= before // save_period:
    # No other checkpoint was between them: the run rolled back to the first of the two.
    return straight + left_out[after]
  around = f"between step {before:,} and step {after:,}" if after else f"after step {before:,}"
  raise UserError(
    f"This run has rolled back (ROLL_BACK), and which batch step {step:,} read is not known: there "
    f"is no checkpoint {around}, which would say how many batches were left out. Ask for a step "
    "next to a checkpoint that is kept, or set KEEP_CHECKPOINTS before the next run."
  )


def _left_out(checkpoints: epath.Path, first: int, last: int) -> dict[int, int]:
  """Returns {step: batches left out before its end} of the checkpoints of a stage."""
  found = {}
  for folder in checkpoints.iterdir() if checkpoints.is_dir() else ():
    if folder.name.isdecimal() and first < int(folder.name) <= last:
      place = folder / _PLACE
      if place.exists():
        step = int(folder.name)
        found[step] = json.loads(place.read_text())["batch"] - (step - first)
  return found
