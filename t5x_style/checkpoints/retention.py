"""Which checkpoints stay: the newest ones, and those with the lowest validation loss."""

import json
import math
from collections.abc import Mapping, Sequence

from etils import epath


def steps_to_remove(
  steps: Sequence[int], losses: Mapping[int, float], keep: int, keep_best: int
) -> list[int]:
  """Returns the steps that are neither among the `keep` newest nor the `keep_best` best.

  Args:
    steps: all complete ones.
    losses: the validation losses of those that have one. Of equal losses the newest is the best.
  """
  ordered = sorted(steps)
  rated = [step for step in ordered if math.isfinite(losses.get(step, math.nan))]
  best = sorted(rated, key=lambda step: (losses[step], -step))[:keep_best]
  stay = {*ordered[-keep:], *best}
  return [step for step in ordered if step not in stay]


def validation_loss(folder: epath.Path) -> float | None:
  """Returns the loss that was saved with a step; None if there is none or it cannot be read."""
  # A CheckpointManager of Orbax stores the losses in an item of their own.
  for file, key in (
    (folder / "run/metadata", "validation_loss"),
    (folder / "metrics/metrics", "loss"),
  ):
    try:
      loss = json.loads(file.read_bytes())[key]
    except (OSError, ValueError, KeyError, TypeError):
      continue
    if isinstance(loss, int | float):
      return float(loss)
  return None
