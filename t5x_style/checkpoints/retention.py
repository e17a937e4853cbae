"""Which checkpoints stay: the newest ones, and the best ones by a validation metric."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from t5x_style.training.metrics import HIGHER_IS_BETTER

DEFAULT_METRIC = "loss"


def steps_to_remove(
  steps: Sequence[int], ranks: Mapping[int, float], keep: int, keep_best: int
) -> list[int]:
  """Returns the steps that are neither among the `keep` newest nor the `keep_best` best.

  Args:
    steps: all complete ones.
    ranks: of those that were evaluated, as `rank` returns it: the lowest is the best. Of equal
      ones the newest is.
  """
  ordered = sorted(steps)
  rated = [step for step in ordered if math.isfinite(ranks.get(step, math.nan))]
  best = sorted(rated, key=lambda step: (ranks[step], -step))[:keep_best]
  stay = {*ordered[-keep:], *best}
  return [step for step in ordered if step not in stay]


def rank(metric: str, value: float | None) -> float:
  """Returns a number that is lower for a better value of a metric; NaN for None."""
  if value is None:
    return math.nan
  return -value if metric in HIGHER_IS_BETTER else value


def best_of(folders: Sequence[epath.Path]) -> epath.Path | None:
  """Returns the best of a run's complete steps, given oldest first; None if none was evaluated.

  The metric is the BEST_METRIC with which the newest of them was saved. Only steps of its stage
  count: stages are evaluated on different batches.
  """
  if not folders:
    return None
  metric, stage = saved_metric(folders[-1]), stage_of(folders[-1])
  folders = [folder for folder in folders if stage_of(folder) == stage]
  ranks = [rank(metric, validation_value(folder, metric)) for folder in folders]
  rated = [(x, -i) for i, x in enumerate(ranks) if math.isfinite(x)]
  return folders[-min(rated)[1]] if rated else None


def stage_of(folder: epath.Path) -> int:
  """Returns the number of the stage of its run that saved a step; 1 for a run of one stage."""
  progress = _json(folder / "run/metadata").get("progress")
  found = progress.get("stage") if isinstance(progress, dict) else None
  return found if isinstance(found, int) else 1


def saved_metric(folder: epath.Path) -> str:
  """Returns the BEST_METRIC of the run that saved a step; "loss" if it is not known."""
  found = _json(folder / "run/metadata").get("best_metric")
  return found if isinstance(found, str) else DEFAULT_METRIC


def validation_value(folder: epath.Path, metric: str) -> float | None:
  """Returns a validation metric that was saved with a step; None if there is none."""
  saved = _json(folder / "run/metadata").get("validation")
  found = saved.get(metric) if isinstance(saved, dict) else None
  if isinstance(found, int | float):
    return float(found)
  return validation_loss(folder) if metric == DEFAULT_METRIC else None


def validation_loss(folder: epath.Path) -> float | None:
  """Returns the loss that was saved with a step; None if there is none or it cannot be read."""
  # A CheckpointManager of Orbax stores the losses in an item of their own.
  for file, key in (
    (folder / "run/metadata", "validation_loss"),
    (folder / "metrics/metrics", "loss"),
  ):
    loss = _json(file).get(key)
    if isinstance(loss, int | float):
      return float(loss)
  return None


def _json(file: epath.Path) -> dict[str, Any]:
  """Returns the object in a file; {} if there is none or it cannot be read."""
  try:
    content = json.loads(file.read_bytes())
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}
