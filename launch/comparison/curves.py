"""The loss curves of a comparison: the mean over seeds, against tokens, FLOPs and seconds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from t5x_style.results import charts, run_folder

# Of each chart: the file of its picture, the label of its x axis.
AXES = {
  "tokens": ("loss_by_tokens", "tokens read and written, without padding"),
  "flops": ("loss_by_flops", "FLOPs of training"),
  "seconds": ("loss_by_seconds", "seconds since the start, with compilation and evaluation"),
}


class Point(NamedTuple):
  """The held-out loss of a candidate at a step: the mean over its seeds, and their range.

  tokens, flops and seconds are means over the seeds, too; NaN where a run does not know them.
  """

  step: int
  tokens: float
  flops: float
  seconds: float
  mean: float
  low: float
  high: float


def points(model_dirs: Sequence[Path], last: int) -> list[Point]:
  """Returns the points of a candidate up to the step `last`, where all its runs have a record."""
  runs = [run_folder.read(folder).curve("validation", "loss") for folder in model_dirs]
  found = [
    {
      int(step): values
      for step, *values in zip(x.steps, x.tokens, x.flops, x.seconds, x.values, strict=True)
    }
    for x in runs
    if x is not None
  ]
  common = set.intersection(*map(set, found)) if found else set()
  return [_point(step, [run[step] for run in found]) for step in sorted(common) if 0 < step <= last]


def _point(step: int, seeds: Sequence[Sequence[float]]) -> Point:
  columns = [[float(x) for x in column] for column in zip(*seeds, strict=True)]
  tokens, flops, seconds, mean = map(statistics.fmean, columns)
  losses = columns[-1]
  return Point(step, tokens, flops, seconds, mean, min(losses), max(losses))


def loss_charts(curves: Mapping[str, Sequence[Point]]) -> dict[str, charts.Chart]:
  """Returns {name of the file: chart} of the held-out losses of all candidates.

  There is no chart against what no run knows.
  """
  drawn = {}
  for axis, (file, label) in AXES.items():
    series = [_series(name, axis, found, i) for i, (name, found) in enumerate(curves.items())]
    if any(len(x.x) for x in series):
      title = f"Held-out loss by {axis if axis != 'flops' else 'FLOPs'}"
      drawn[file] = charts.line_chart(title, label, "nats per token with loss", series)
  return drawn


def _series(name: str, axis: str, found: Sequence[Point], color: int) -> charts.Series:
  found = [x for x in found if math.isfinite(getattr(x, axis))]
  spread = any(x.low < x.high for x in found)
  return charts.Series(
    name,
    [getattr(x, axis) for x in found],
    [x.mean for x in found],
    [x.low for x in found] if spread else None,
    [x.high for x in found] if spread else None,
    color=color,
  )
