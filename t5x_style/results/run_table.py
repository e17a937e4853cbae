"""The figures of runs in words and numbers: the table at the head of a report."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from t5x_style.durations import duration
from t5x_style.results.numbers import cell_text
from t5x_style.results.run_folder import TRAIN, VALIDATION, RunRecords, value_of

_DEAD_SECONDS = 60.0  # A run writes its heartbeat every few seconds.
_FACTS = ("model", "data", "batch", "devices", "attention")
_ENDED = {"finished": "finished", "stopped": "stopped by a signal, saved", "failed": "failed"}
_HIGHER_IS_BETTER = ("accuracy", "exact_match", "pair_accuracy")
_MOST_EVALUATIONS = 20

Cell = str | int | float | None


class Best(NamedTuple):
  """The best value of a metric, and the step of its record."""

  value: float
  step: int


def summary(runs: Sequence[RunRecords], now: float) -> list[list[Cell]]:
  """Returns rows of a table, each [what it is, its value in every run]; without empty rows.

  Args:
    now: seconds since 1970.
  """
  columns = [_figures(run, now) for run in runs]
  names = dict.fromkeys(name for column in columns for name in column)
  rows: list[list[Cell]] = [[name, *(column.get(name) for column in columns)] for name in names]
  return [row for row in rows if any(cell is not None for cell in row[1:])]


def state(run: RunRecords, now: float) -> str:
  """Returns what a run does, or how it ended, by its heartbeat.

  Args:
    now: seconds since 1970.
  """
  beat = run.heartbeat
  doing, written = beat.get("state"), beat.get("written_time")
  if not isinstance(doing, str) or not isinstance(written, int | float):
    return "unknown: the run has written no heartbeat.json"
  if doing in _ENDED:
    return _ENDED[doing]
  if now - written > _DEAD_SECONDS:
    since = datetime.datetime.fromtimestamp(written, datetime.UTC)
    return f"no sign of life since {since:%Y-%m-%d %H:%M:%S} UTC, while {doing}"
  return doing


def best(run: RunRecords, split: str, name: str) -> Best | None:
  """Returns the best value of a metric, the first one of equals; None if none is finite."""
  curve = run.curve(split, name)
  if curve is None or not np.isfinite(curve.values).any():
    return None
  worst = -math.inf if name in _HIGHER_IS_BETTER else math.inf
  values = np.where(np.isfinite(curve.values), curve.values, worst)
  index = int(values.argmax() if name in _HIGHER_IS_BETTER else values.argmin())
  return Best(float(values[index]), int(curve.steps[index]))


def evaluations(run: RunRecords) -> tuple[list[str], list[list[Cell]]]:
  """Returns the columns and rows of a table of the newest evaluations of a run."""
  names = [name for name in run.names(VALIDATION) if name not in ("rollbacks",)]
  records = [record for record in run.records if record["split"] == VALIDATION]
  rows: list[list[Cell]] = [
    [f"{record['step']:,}", *(shown(name, value_of(record, name)) for name in names)]
    for record in records[-_MOST_EVALUATIONS:]
  ]
  # The name of a part of the data, as in loss/R_3_15, stays as the user wrote it.
  return ["step", *(name if "/" in name else name.replace("_", " ") for name in names)], rows


def shown(name: str, value: float | None) -> Cell:
  """Returns a metric as it stands in a table: shares as percent."""
  if value is None or not math.isfinite(value):
    return None if value is None or math.isnan(value) else str(value)
  shares = ("accuracy", "exact_match", "pair_accuracy", "mfu", "data_wait")
  if name in shares:
    return f"{value:.1%}"
  is_loss = name.partition("/")[0].endswith("loss") or name == "bits_per_byte"
  return f"{value:.3f}" if is_loss and abs(value) < 1000 else cell_text(value)


def not_finite(run: RunRecords) -> list[str]:
  """Returns "loss (training) at step 20", ... for values of records that were not finite."""
  return [
    f"{name} ({'training' if record['split'] == TRAIN else record['split']}) at step "
    f"{record['step']:,}: {value}"
    for record in run.records
    for name, value in record.get("not_finite", {}).items()
  ]


def _figures(run: RunRecords, now: float) -> dict[str, Cell]:
  facts = run.described("facts")
  last = {split: _last(run, split) for split in (TRAIN, VALIDATION)}
  steps = run.info.get("train_steps")
  figures: dict[str, Cell] = {
    "state": state(run, now),
    "step": f"{run.last_step:,}" + (f" of {steps:,}" if isinstance(steps, int) else ""),
    **{name: str(facts[name]) for name in _FACTS if name in facts},
  }
  curve = run.curve(TRAIN, "loss")
  if curve is not None:
    figures["tokens read"] = cell_text(round(curve.tokens[-1])) if curve.tokens[-1] > 0 else None
    flops = float(curve.flops[-1])
    figures["FLOPs"] = None if math.isnan(flops) else cell_text(flops)
  seconds = [value_of(record, "seconds") for record in run.records]
  if any(map(math.isfinite, seconds)):
    figures["time"] = duration(np.nanmax(seconds))
  for name in ("loss", "accuracy", "bits_per_byte", "exact_match", "pair_accuracy"):
    title = name.replace("_", " ")
    if name in last[TRAIN]:
      figures[f"training {title}"] = shown(name, value_of(last[TRAIN], name))
    if name in last[VALIDATION]:
      figures[f"validation {title}"] = _last_and_best(run, name)
  return figures | _speed(run) | _counts(last[TRAIN])


def _last_and_best(run: RunRecords, name: str) -> str:
  """Returns "4.858", of the newest evaluation, or "4.858; best 4.852 at step 400"."""
  record, found = _last(run, VALIDATION), best(run, VALIDATION, name)
  text = str(shown(name, value_of(record, name)) or "not finite")
  if found is None or found.step == record["step"]:
    return text
  return f"{text}; best {shown(name, found.value)} at step {found.step:,}"


def _speed(run: RunRecords) -> dict[str, Cell]:
  found: dict[str, Cell] = {}
  for name, title in (
    ("tokens_per_second", "tokens per second, median"),
    ("mfu", "model FLOPs utilization, median"),
    ("data_wait", "waiting for data, median"),
  ):
    curve = run.curve(TRAIN, name)
    if curve is not None and np.isfinite(curve.values).any():
      value = float(np.nanmedian(curve.values))
      found[title] = f"{value:,.0f}" if name == "tokens_per_second" else shown(name, value)
  return found


def _counts(last: Mapping[str, Any]) -> dict[str, Cell]:
  names = ("skipped_steps", "spikes", "rollbacks", "failed_saves")
  counts = {name: value_of(last, name) for name in names}
  return {name.replace("_", " "): int(x) for name, x in counts.items() if math.isfinite(x)}


def _last(run: RunRecords, split: str) -> Mapping[str, Any]:
  return next((record for record in reversed(run.records) if record["split"] == split), {})
