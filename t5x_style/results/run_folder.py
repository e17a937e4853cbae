"""Reads what a run wrote to MODEL_DIR, also while it trains or after it was killed."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from t5x_style.errors import UserError, first_line
from t5x_style.results import config_text

TRAIN, VALIDATION = "train", "validation"
_NOT_METRICS = ("step", "split", "tokens", "seconds", "not_finite", "stage")
_FILES = ("metrics.jsonl", "config.gin", "run-info.json", "heartbeat.json")  # One makes it a run.


@dataclasses.dataclass(frozen=True)
class Curve:
  """One metric of one split over the run; all arrays are [records], in the order of the steps.

  Attributes:
    steps: the steps after which it was recorded.
    values: NaN or infinite where they were.
    tokens: that the run had read, without padding; NaN where it is not known.
    flops: of all steps until then, by the formula of t5x_style/training/flops.py; NaN likewise.
    seconds: since the run began, without interruptions; NaN likewise.
  """

  steps: np.ndarray
  values: np.ndarray
  tokens: np.ndarray
  flops: np.ndarray
  seconds: np.ndarray


@dataclasses.dataclass(frozen=True)
class RunRecords:
  """What is in the folder of a run. What a run has not written is empty.

  Attributes:
    folder: MODEL_DIR.
    records: of metrics.jsonl, in the order of the steps; the last one where there are two.
    damaged_lines: of metrics.jsonl that are no records and were left out.
    info: run-info.json, of the newest start.
    config: the text of config.gin.
    model_info: the text of model-info.txt.
    samples: (step, {title: text}), in the order of the steps.
    heartbeat: heartbeat.json (t5x_style/reporting/heartbeat.py says what is in it).
    skipped: {step: reason} of the steps whose batches were saved because they were skipped.
  """

  folder: epath.Path
  records: tuple[Mapping[str, Any], ...] = ()
  damaged_lines: int = 0
  info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  config: str = ""
  model_info: str = ""
  samples: tuple[tuple[int, Mapping[str, str]], ...] = ()
  heartbeat: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  skipped: Mapping[int, str] = dataclasses.field(default_factory=dict)

  def names(self, split: str) -> list[str]:
    """Returns the names of the metrics of a split, in the order of their first record."""
    found = (name for record in self.records if record["split"] == split for name in record)
    return [name for name in dict.fromkeys(found) if name not in _NOT_METRICS]

  def splits(self) -> list[str]:
    """Returns the splits that have records: "train", "validation"."""
    return list(dict.fromkeys(record["split"] for record in self.records))

  def curve(self, split: str, name: str, missing: float | None = None) -> Curve | None:
    """Returns a metric over the run; None if no record has it.

    Args:
      missing: its value where a record does not have it, as a count that is written once it is not
        zero; by default such records are left out.
    """
    records = [
      x for x in self.records if x["split"] == split and (name in x or missing is not None)
    ]
    if not any(name in record for record in records):
      return None
    steps = np.array([record["step"] for record in records])
    return Curve(
      steps,
      np.array([value_of(x, name) if name in x else missing for x in records], float),
      self._tokens(steps),
      self._flops(steps),
      np.array([value_of(record, "seconds") for record in records]),
    )

  @functools.cached_property
  def step_flops(self) -> float:
    """FLOPs of one training step; NaN if the run does not say."""
    if isinstance(self.info.get("step_flops"), int | float):
      return float(self.info["step_flops"])
    written = re.search(r"^FLOPs of a step\s+(\S+)", self.model_info, re.MULTILINE)
    return float(written.group(1)) if written else math.nan

  @functools.cached_property
  def settings(self) -> dict[str, str]:
    """{name: value} of config.gin, both as text."""
    return config_text.settings(self.config)

  @functools.cached_property
  def last_step(self) -> int:
    """The newest step with a record; 0 if there is none."""
    return max((record["step"] for record in self.records), default=0)

  def described(self, part: str) -> Mapping[str, Any]:
    """Returns a part of run-info.json, such as "facts" or "machine"; {} if there is none."""
    found = self.info.get(part)
    return found if isinstance(found, dict) else {}

  @property
  def stages(self) -> list[Mapping[str, Any]]:
    """The stages of a staged run as run-info.json has them, each with "first_step"; else []."""
    found = self.info.get("stages")
    return [x for x in found if isinstance(x, dict)] if isinstance(found, list) else []

  def _flops(self, steps: np.ndarray) -> np.ndarray:
    """Returns the FLOPs of all steps up to each of `steps`."""
    if not self.stages:
      return steps * self.step_flops
    total = np.zeros(len(steps))
    for stage in self.stages:
      first, last = value_of(stage, "first_step"), value_of(stage, "last_step")
      total += np.clip(steps - first, 0, last - first) * value_of(stage, "step_flops")
    return total

  def _tokens(self, steps: np.ndarray) -> np.ndarray:
    """Returns the tokens read at steps: those recorded, or on the line between two records."""
    known = {r["step"]: r["tokens"] for r in self.records if _is_number(r.get("tokens"))}
    if not known:
      return np.full(len(steps), math.nan)
    known = {0: 0, **known}
    x, y = np.array(list(known)), np.array(list(known.values()), float)
    rate = (y[-1] - y[-2]) / (x[-1] - x[-2]) if len(x) > 1 else math.nan
    return np.where(steps > x[-1], y[-1] + (steps - x[-1]) * rate, np.interp(steps, x, y))


def read(model_dir: epath.PathLike) -> RunRecords:
  """Reads the folder of a run.

  A line of metrics.jsonl that is being written is left out.

  Raises:
    UserError: there is no such folder, no run has written to it, or it cannot be read.
  """
  folder = epath.Path(model_dir).expanduser()
  try:
    _check(folder)
    return _read(folder)
  except UserError:
    raise
  except Exception as error:
    if isinstance(error, OSError) or "://" in str(folder):  # Errors of buckets are no OSErrors.
      raise UserError(f"{folder} cannot be read ({first_line(error)}).") from error
    raise


def value_of(record: Mapping[str, Any], name: str) -> float:
  """Returns a number of a record; NaN or infinity where JSON has null, NaN if there is none."""
  value = record.get(name)
  if value is None:
    value = record.get("not_finite", {}).get(name)
    return float(value) if value in ("nan", "inf", "-inf") else math.nan
  return float(value) if _is_number(value) else math.nan


def short_names(runs: Sequence[RunRecords]) -> list[str]:
  """Returns a name for each run: its last folders, as many as it takes to tell them apart."""
  parts = [run.folder.parts for run in runs]
  for count in range(1, max(map(len, parts)) + 1):
    names = ["/".join(x[-count:]) for x in parts]
    if len(set(names)) == len({tuple(x) for x in parts}):
      break
  return names


def _check(folder: epath.Path) -> None:
  """Raises UserError unless the folder is that of a run."""
  if not folder.exists():
    raise UserError(f"There is no folder {folder}; name the MODEL_DIR of a run.")
  if any(_holds(folder, name) for name in _FILES):
    return
  near = [folder.parent, *folder.parents[1:3]]
  if folder.is_dir():
    near = [*sorted(x for x in folder.iterdir() if x.is_dir())[:100], *near]
  hint = next((x for x in near if _holds(x, "metrics.jsonl") or _holds(x, "config.gin")), None)
  what = "is no MODEL_DIR: no run has written metrics.jsonl or config.gin there"
  raise UserError(f"{folder} {what}." + (f" Did you mean {hint}?" if hint else ""))


def _holds(folder: epath.Path, name: str) -> bool:
  return folder.is_dir() and (folder / name).exists()


def _read(folder: epath.Path) -> RunRecords:
  records, damaged = _records(_text(folder / "metrics.jsonl"))
  samples, _ = _lines(_text(folder / "samples.jsonl"))
  skipped = folder / "skipped_batches"
  return RunRecords(
    folder,
    records,
    damaged,
    info=_object(_text(folder / "run-info.json")),
    config=_text(folder / "config.gin"),
    model_info=_text(folder / "model-info.txt"),
    samples=tuple(
      (line["step"], {str(title): str(text) for title, text in line["sample"].items()})
      for line in samples
      if type(line.get("step")) is int and isinstance(line.get("sample"), dict)
    ),
    heartbeat=_object(_text(folder / "heartbeat.json")),
    skipped=_skipped(skipped) if skipped.is_dir() else {},
  )


def _text(path: epath.Path) -> str:
  return path.read_bytes().decode(errors="replace") if path.exists() else ""


def _object(text: str) -> dict[str, Any]:
  """Returns a JSON object; {} if the text is none."""
  try:
    found = json.loads(text)
  except ValueError:
    return {}
  return found if isinstance(found, dict) else {}


def _lines(text: str) -> tuple[list[dict[str, Any]], int]:
  """Returns the JSON objects of lines, and how many other lines there are.

  A last line without an end is being written, or its writer was killed: it is not counted.
  """
  lines = [line for line in text.split("\n")[:-1] if line.strip()]
  found = [_object(line) for line in lines]
  unfinished = _object(text.rpartition("\n")[2])
  return [x for x in (*found, unfinished) if x], sum(not x for x in found)


def _records(text: str) -> tuple[tuple[Mapping[str, Any], ...], int]:
  """Returns the records of metrics.jsonl in the order of the steps, and how many lines are bad."""
  lines, damaged = _lines(text)
  kept: dict[tuple[int, str], Mapping[str, Any]] = {}
  for line in lines:
    step, split = line.get("step"), line.get("split")
    lost = line.get("not_finite", {})
    if type(step) is int and isinstance(split, str) and isinstance(lost, dict):
      kept[step, split] = line
    else:
      damaged += 1
  return tuple(kept[key] for key in sorted(kept, key=lambda key: key[0])), damaged


def _skipped(folder: epath.Path) -> dict[int, str]:
  """Returns {step: reason} of the files STEP-PROCESS.jsonl."""
  found = {}
  for path in folder.glob("*-*.jsonl"):
    step = path.name.partition("-")[0]
    if step.isdigit():
      with path.open("rb") as file:
        line = _object(file.readline().decode(errors="replace"))
      found[int(step)] = str(line.get("reason", ""))
  return dict(sorted(found.items()))


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
