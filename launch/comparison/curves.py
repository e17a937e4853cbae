"""The loss curves of a comparison: the mean over seeds, against tokens, FLOPs and seconds."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.results import charts

from .run_job import read_metrics

# Of each chart: the file of its picture, the label of its x axis.
AXES = {
  "tokens": ("loss_by_tokens", "tokens of the batches"),
  "flops": ("loss_by_flops", "FLOPs of training"),
  "seconds": ("loss_by_seconds", "seconds since the start, with compilation and evaluation"),
}


class Point(NamedTuple):
  """The held-out loss of a candidate at a step: mean and range over its seeds."""

  step: int
  tokens: float
  flops: float
  seconds: float
  mean: float
  low: float
  high: float


def points(model_dirs: Sequence[Path], facts: Mapping[str, Any], last: int) -> list[Point]:
  """Returns the points of a candidate up to the step `last`, where all its runs have a record."""
  runs = [
    {x["step"]: x for x in read_metrics(folder) if x["split"] == "validation"}
    for folder in model_dirs
  ]
  common = set.intersection(*map(set, runs)) if runs else set()
  found = []
  for step in sorted(x for x in common if 0 < x <= last):
    losses = [run[step]["loss"] for run in runs]
    seconds = statistics.fmean(run[step]["seconds"] for run in runs)
    found.append(
      Point(
        step,
        step * facts["step_tokens"],
        step * facts["step_flops"],
        seconds,
        statistics.fmean(losses),
        min(losses),
        max(losses),
      )
    )
  return found


def loss_charts(curves: Mapping[str, Sequence[Point]]) -> dict[str, charts.Chart]:
  """Returns {name of the file: chart} of the held-out losses of all candidates."""
  return {
    file: charts.line_chart(
      f"Held-out loss by {axis if axis != 'flops' else 'FLOPs'}",
      label,
      "nats per token with loss",
      [_series(name, axis, found, number) for number, (name, found) in enumerate(curves.items())],
    )
    for axis, (file, label) in AXES.items()
  }


def _series(name: str, axis: str, found: Sequence[Point], color: int) -> charts.Series:
  spread = any(x.low < x.high for x in found)
  return charts.Series(
    name,
    [getattr(x, axis) for x in found],
    [x.mean for x in found],
    [x.low for x in found] if spread else None,
    [x.high for x in found] if spread else None,
    color=color,
  )
