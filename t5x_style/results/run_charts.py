"""The charts of one run, or of several runs in the same charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.results.charts import Chart, Series, line_chart
from t5x_style.results.run_folder import TRAIN, VALIDATION, Curve, RunRecords, value_of

Named = tuple[str, RunRecords]  # a run and what it is called

_MOST_POINTS = 400  # of a curve; of more records, the mean of neighbours is drawn
_WIDE = 30  # A curve whose largest value is this many times its median has a logarithmic axis.


class Metric(NamedTuple):
  """How a metric is shown."""

  title: str
  y_label: str
  factor: float = 1.0


class Section(NamedTuple):
  """Charts under one heading: (chart, caption) each; `key` names the files of pictures."""

  heading: str
  charts: list[tuple[str, Chart, str]]  # (key, chart, caption)


METRICS = {
  "loss": Metric("Loss", "nats per target token"),
  "accuracy": Metric("Accuracy", "% of target tokens", 100),
  "bits_per_byte": Metric("Bits per byte", "bits per byte of target text"),
  "exact_match": Metric("Exact match", "% of sequences", 100),
  "pair_loss": Metric("Loss of sentence pairs", "nats per pair"),
  "pair_accuracy": Metric("Sentence pairs", "% right", 100),
  "z_loss": Metric("z-loss", "nats per target token"),
  "learning_rate": Metric("Learning rate", "learning rate"),
  "grad_norm": Metric("Gradient norm", "norm before clipping"),
  "tokens_per_second": Metric("Throughput", "tokens read per second"),
  "mfu": Metric("Model FLOPs utilization", "% of peak FLOP/s", 100),
  "data_wait": Metric("Waiting for data", "% of the time", 100),
  "skipped_steps": Metric("Skipped steps", "steps until then"),
  "spikes": Metric("Spikes", "spikes until then"),
  "rollbacks": Metric("Rollbacks", "rollbacks until then"),
  "failed_saves": Metric("Failed saves", "failed saves until then"),
}
OPTIMIZATION = ("learning_rate", "grad_norm")
SPEED = ("tokens_per_second", "mfu", "data_wait")
EVENTS = ("skipped_steps", "spikes", "rollbacks", "failed_saves")
EVENTS_HEADING = "Skipped steps and spikes"
_COMPONENT = "loss/"
# Other values of each part of the data: {beginning of the name: (title, label, factor)}.
_OF_PARTS = {
  "share/": ("Share of the target tokens", "% of the target tokens", 100.0),
  "epochs/": ("How often each corpus has been read", "epochs", 1.0),
}

# What losses are drawn against: {name: (label, values of a curve)}.
_AXES: dict[str, tuple[str, Callable[[Curve], np.ndarray]]] = {
  "steps": ("steps", lambda curve: curve.steps),
  "tokens": ("tokens read", lambda curve: curve.tokens),
  "flops": ("FLOPs", lambda curve: curve.flops),
  "time": ("time", lambda curve: curve.seconds),
}


def sections(runs: Sequence[Named]) -> list[Section]:
  """Returns all charts that the records of the runs allow, in the order of the page.

  Args:
    runs: each has a colour of its own, by its place.
  """
  found = [
    Section("Loss", list(_losses(runs))),
    Section("Loss of each part of the data", list(_components(runs))),
    Section("Shares of the parts of the data", list(_shares(runs))),
    Section("Other measures of quality", list(_others(runs))),
    Section("Optimization", list(_of_train(runs, OPTIMIZATION))),
    Section("Speed", list(_of_train(runs, SPEED))),
    Section(EVENTS_HEADING, list(_events(runs))),
  ]
  return [section for section in found if section.charts]


def _losses(runs: Sequence[Named]) -> Iterator[tuple[str, Chart, str]]:
  groups = [(TRAIN, VALIDATION)] if len(runs) == 1 else [(TRAIN,), (VALIDATION,)]
  for axis in _AXES:
    for splits in groups:
      title = "Loss" if len(splits) == 2 else f"{_split_title(splits[0])} loss"
      chart, caption = _chart(runs, "loss", splits, axis, f"{title} against {_AXES[axis][0]}")
      if chart:
        split = f"-{splits[0]}" if len(splits) == 1 else ""
        yield f"loss{split}-{axis}", chart, caption


def _components(runs: Sequence[Named]) -> Iterator[tuple[str, Chart, str]]:
  """Yields a chart for each part that several runs have, and one of all other parts of each run."""
  names = _names(runs, lambda name: name.startswith(_COMPONENT))
  having = {
    name: [x for x in runs if name in {*x[1].names(TRAIN), *x[1].names(VALIDATION)}]
    for name in names
  }
  for name in names:
    for split in (TRAIN, VALIDATION) if len(having[name]) > 1 else ():
      title = f"{_split_title(split)} loss: {name.removeprefix(_COMPONENT)}"
      chart, caption = _chart(runs, name, (split,), "steps", title)
      if chart:
        yield f"{name}-{split}", chart, caption
  for index, run in enumerate(runs):
    own = [name for name in names if having[name] == [run]]
    for split in (TRAIN, VALIDATION):
      start = f"{run[0]}: {_split_title(split).lower()}" if len(runs) > 1 else _split_title(split)
      metric = Metric(f"{start} loss of each part", METRICS["loss"].y_label)
      chart, caption = _parts(run, own, split, metric)
      if chart:
        yield f"loss-parts-{split}" + (f"-{index + 1}" if len(runs) > 1 else ""), chart, caption


def _shares(runs: Sequence[Named]) -> Iterator[tuple[str, Chart, str]]:
  """Yields for each run a chart of the shares of its parts, and one of the epochs read."""
  for index, run in enumerate(runs):
    for prefix, (title, y_label, factor) in _OF_PARTS.items():
      names = [name for name in run[1].names(TRAIN) if name.startswith(prefix)]
      title = f"{run[0]}: {title.lower()}" if len(runs) > 1 else title
      chart, caption = _parts(run, names, TRAIN, Metric(title, y_label, factor))
      if chart:
        yield prefix.rstrip("/") + (f"-{index + 1}" if len(runs) > 1 else ""), chart, caption


def _parts(
  run: Named, names: Sequence[str], split: str, metric: Metric
) -> tuple[Chart | None, str]:
  """Returns a chart of parts of the data in one run, each in a colour, and its caption."""
  series, caption = [], ""
  for color, name in enumerate(names):
    made, thinned_caption = _series([run], name, (split,), "steps", metric.factor)
    caption = caption or thinned_caption
    part = name.partition("/")[2]
    series += [Series(part, s.x, s.y, s.low, s.high, color) for s in made]
  if not series:
    return None, caption
  marks = _starts_of_stages([run])
  return line_chart(metric.title, "step", metric.y_label, series, marks=marks), caption


def _starts_of_stages(runs: Sequence[Named]) -> list[float]:
  """Returns the steps at which the stages of a single run began, without that of the first."""
  starts = [value_of(stage, "first_step") for _, run in runs for stage in run.stages[1:]]
  newest = runs[0][1].last_step
  return [x for x in starts if math.isfinite(x) and x < newest] if len(runs) == 1 else []


def _others(runs: Sequence[Named]) -> Iterator[tuple[str, Chart, str]]:
  known = ("loss", *OPTIMIZATION, *SPEED, *EVENTS)
  prefixes = (_COMPONENT, *_OF_PARTS)
  for name in _names(runs, lambda name: name not in known and not name.startswith(prefixes)):
    metric = METRICS.get(name, Metric(name, name))
    for splits in [(TRAIN, VALIDATION)] if len(runs) == 1 else [(TRAIN,), (VALIDATION,)]:
      title = metric.title + (f", {_split_title(splits[0]).lower()}" if len(splits) == 1 else "")
      chart, caption = _chart(runs, name, splits, "steps", title)
      if chart:
        split = f"-{splits[0]}" if len(splits) == 1 else ""
        yield f"{name}{split}", chart, caption


def _of_train(runs: Sequence[Named], names: Sequence[str]) -> Iterator[tuple[str, Chart, str]]:
  for name in names:
    chart, caption = _chart(runs, name, (TRAIN,), "steps", METRICS[name].title)
    if chart:
      yield name, chart, caption


def _events(runs: Sequence[Named]) -> Iterator[tuple[str, Chart, str]]:
  for name in EVENTS:
    counts = [run.curve(TRAIN, name) for _, run in runs]
    if any(curve is not None and (curve.values > 0).any() for curve in counts):
      yield from _of_train(runs, (name,))


def _chart(
  runs: Sequence[Named], name: str, splits: Sequence[str], axis: str, title: str
) -> tuple[Chart | None, str]:
  """Returns a chart of a metric and its caption; None if there is nothing to draw."""
  metric = METRICS.get("loss" if name.startswith(_COMPONENT) else name, Metric(name, name))
  series, caption = _series(runs, name, splits, axis, metric.factor)
  if not series:
    return None, ""
  label, x_factor = _AXES[axis][0], 1.0
  if axis == "time":
    unit, x_factor = _time_unit(max(max(s.x) for s in series))
    label = unit
  if axis == "steps":
    label = "step"
  series = [s if x_factor == 1 else _stretched(s, x_factor) for s in series]
  values = np.concatenate([np.asarray(s.y, float) for s in series])
  log_y = name not in (*SPEED, *EVENTS) and metric.factor == 1 and _is_wide(values)
  marks = _starts_of_stages(runs) if axis == "steps" else []
  return line_chart(title, label, metric.y_label, series, log_y=log_y, marks=marks), caption


def _series(
  runs: Sequence[Named], name: str, splits: Sequence[str], axis: str, factor: float
) -> tuple[list[Series], str]:
  """Returns the curves of a metric, and a caption that says so if records were averaged."""
  series, caption = [], ""
  for color, (run_name, run) in enumerate(runs):
    for split in splits:
      curve = run.curve(split, name, missing=0 if name in EVENTS else None)
      if curve is None:
        continue
      x, y = _AXES[axis][1](curve).astype(float), curve.values * factor
      known = np.isfinite(x)
      if not np.isfinite(y[known]).any():
        continue
      both = len(splits) > 1
      label = run_name if len(runs) > 1 else _split_title(split).lower() if both else ""
      x, y, low, high, count = thinned(x[known], y[known])
      if count > 1:
        caption = f"The line is the mean of {count} records, the band goes from least to greatest."
      shown = color if len(runs) > 1 or split == TRAIN else 1
      series.append(Series(label, x, y, low, high, shown, dashed=both and split != TRAIN))
  return series, caption


def thinned(
  x: np.ndarray, y: np.ndarray, most: int = _MOST_POINTS
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None, int]:
  """Returns a curve of at most `most` points: x, y, low, high, and how many records a point is.

  Of a longer curve, y is the mean of neighbours, and low and high the band in which they are.
  """
  count = math.ceil(len(x) / most)
  if count <= 1:
    return x, y, None, None, 1
  groups = range(0, len(x), count)
  finite = [[v for v in y[i : i + count] if math.isfinite(v)] or [math.nan] for i in groups]
  means, low, high = (np.array([float(f(v)) for v in finite]) for f in (np.mean, np.min, np.max))
  return np.array([x[i : i + count].mean() for i in groups]), means, low, high, count


def _stretched(series: Series, factor: float) -> Series:
  x = np.asarray(series.x) * factor
  return Series(series.label, x, series.y, series.low, series.high, series.color, series.dashed)


def _time_unit(seconds: float) -> tuple[str, float]:
  for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
    if seconds >= 3 * size:
      return unit, 1 / size
  return "seconds", 1.0


def _is_wide(values: np.ndarray) -> bool:
  """Returns whether only a logarithmic axis shows more than the largest value."""
  values = values[np.isfinite(values)]
  return bool((values > 0).all() and values.max() > _WIDE * np.median(values))


def _names(runs: Sequence[Named], wanted: Callable[[str], bool]) -> list[str]:
  found = (name for _, run in runs for split in run.splits() for name in run.names(split))
  return [name for name in dict.fromkeys(found) if wanted(name)]


def _split_title(split: str) -> str:
  return {TRAIN: "Training", VALIDATION: "Validation"}.get(split, split)
