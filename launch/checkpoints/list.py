"""Lists the checkpoints of a run: when they were saved, their size, their metrics."""

import json
import math
from collections.abc import Sequence
from typing import Any

from t5x_style.checkpoints import inventory, retention
from t5x_style.checkpoints.inventory import Entry, Kind

from .output import size_text, table

FLAGS = ("json",)
FOLDERS = (1,)

_UNFINISHED = "unfinished: it is being saved, or the process that saved it has died"


def run(values: Any, folders: Sequence[str]) -> int:
  folder = inventory.checkpoints_folder(folders[0])
  entries = inventory.entries(folder)
  marks = _marks(entries)
  if values.json:
    objects = [_object(entry, marks) for entry in entries]
    print(json.dumps({"folder": str(folder), "checkpoints": objects}))
  else:
    print(f"{folder}\n\n{_text(entries, marks)}")
  return 0


def _marks(entries: Sequence[Entry]) -> dict[Entry, list[str]]:
  """Returns {entry: ["newest", "best"]}, the best by the BEST_METRIC of the newest one."""
  whole = [entry for entry in entries if entry.kind is Kind.COMPLETE and not entry.note]
  marks: dict[Entry, list[str]] = {entry: [] for entry in entries}
  if len(whole) > 1:
    marks[whole[-1]].append("newest")
  evaluated = [
    entry
    for entry in whole
    if math.isfinite(_rank(entry)) and entry.best_metric == whole[-1].best_metric
  ]
  if evaluated:  # Of equal values the newest is the best, as in retention.py.
    marks[min(reversed(evaluated), key=_rank)].append("best")
  return marks


def _rank(entry: Entry) -> float:
  return retention.rank(entry.best_metric, entry.best_value)


def _object(entry: Entry, marks: dict[Entry, list[str]]) -> dict[str, Any]:
  return {
    "name": entry.path.name,
    "step": entry.step,
    "kind": entry.kind.value,
    "saved": entry.saved.isoformat() if entry.saved else None,
    "bytes": entry.size,
    "validation_loss": entry.validation_loss,
    "best_metric": entry.best_metric,
    "best_value": entry.best_value,
    "skipped_steps": entry.skipped_steps,
    "digests": entry.has_digests,
    "marks": marks[entry],
    "note": entry.note,
  }


def _text(entries: Sequence[Entry], marks: dict[Entry, list[str]]) -> str:
  skipped = any(entry.skipped_steps for entry in entries)
  metric = next((e.best_metric for e in reversed(entries) if e.best_value is not None), "loss")
  other = [] if metric == retention.DEFAULT_METRIC else [f"validation {metric}"]
  headings = ["step", "saved at", "size", "validation loss", *other, "digests"]
  headings = [*headings, *(["skipped steps"] if skipped else []), ""]
  rows = []
  for entry in entries:
    note = entry.note or (_UNFINISHED if entry.kind is Kind.UNFINISHED else "")
    loss = entry.validation_loss
    cells = [
      entry.path.name if entry.step is None or entry.kind is Kind.DAMAGED else f"{entry.step:,}",
      f"{entry.saved:%Y-%m-%d %H:%M:%S}" if entry.saved else "-",
      size_text(entry.size),
      "-" if loss is None else f"{loss:.4f}",
      *(["-" if entry.best_value is None else f"{entry.best_value:.4f}"] if other else []),
      "yes" if entry.has_digests else "no",
    ]
    if skipped:
      cells.append("-" if entry.skipped_steps is None else f"{entry.skipped_steps:,}")
    rows.append([*cells, ", ".join([*marks[entry], *([note] if note else [])])])
  return table(headings, rows)
