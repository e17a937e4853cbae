"""COMPARE_DIR/comparison.json: the plan of a comparison, and what became of each run.

    {"plan": {"comparison": {...}, "candidates": {NAME: {facts, "steps": 400}}},
     "machine": {...}, "started": "2026-01-31 12:00",
     "runs": {"masked-lm-0": {"state": "judged", "trained_steps": 400, "training_seconds": 71.2,
                              "judging_seconds": 9.1, "error": ""}, ...},
     "speeds": {NAME: seconds of a step}, "data": {NAME: shares measured on some rows},
     "rounds": [{"steps": {...}, "values": {...}, "kept": [...]}]}

The state of a run is "judged", "failed" (then "error" says why) or "". The file is replaced as a
whole, so a kill at any moment leaves the one before or the one after.
"""

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.comparison.settings import Comparison, folder_name
from t5x_style.errors import shortened

from ..process import whole_files
from ..process.errors import ConfigurationError

_NAME = "comparison.json"
# After a change of the last three the models are judged again.
_MAY_CHANGE = ("compare_dir", "at_once", "pairs_file", "classification", "classification_steps")
_LONGEST = 60  # characters of a value in a message


class Run(NamedTuple):
  """A run: a candidate with a seed."""

  candidate: str
  seed: int

  @property
  def name(self) -> str:
    return f"{folder_name(self.candidate)}-{self.seed}"


def plan(
  comparison: Comparison, facts: Mapping[str, Any], steps: Mapping[str, int]
) -> dict[str, Any]:
  """Returns the plan as JSON: all that decides about the runs and how they are judged."""
  settings = dataclasses.asdict(comparison)
  settings = {name: value for name, value in settings.items() if name not in _MAY_CHANGE}
  candidates = {name: {**facts[name], "steps": steps[name]} for name in comparison.candidates}
  return json.loads(json.dumps({"comparison": settings, "candidates": candidates}))


class Record:
  """The content of comparison.json."""

  def __init__(self, folder: Path):
    """Reads the file, if there is one.

    Raises:
      ConfigurationError: it is damaged.
    """
    self._path = folder / _NAME
    self.content: dict[str, Any] = {"plan": None, "runs": {}, "rounds": []}
    self.content |= {"speeds": {}, "data": {}}
    if self._path.exists():
      try:
        self.content |= json.loads(self._path.read_text())
      except ValueError as error:
        raise ConfigurationError(
          f"{self._path} is damaged ({error}). Remove it: runs that are done are not repeated."
        ) from error

  @property
  def runs(self) -> dict[str, dict[str, Any]]:
    return self.content["runs"]

  def begin(self, new: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
    """Takes a plan, which must be the earlier one, if there is one.

    Candidates and seeds may be added, unless the comparison halves.

    Raises:
      ConfigurationError: the plan has changed; the message shows the differences.
    """
    old = self.content["plan"]
    if old is not None:
      found = differences(old, new)
      if found:
        lines = "\n".join(f"  {line}" for line in shortened(found))
        raise ConfigurationError(
          f"{self._path.parent} holds a comparison with other settings:\n{lines}\n"
          "Repeat these settings, or set another COMPARE_DIR."
        )
    self.content.setdefault("started", time.strftime("%Y-%m-%d %H:%M"))
    self.content["plan"], self.content["machine"] = new, machine
    self.save()

  def update(self, run: Run, **values: Any) -> None:
    """Notes values of a run, and saves."""
    self.runs.setdefault(run.name, {}).update(values)
    self.save()

  def save(self) -> None:
    whole_files.write_json(self._path, self.content)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """Returns a line for each difference of two plans that forbids to continue."""
  old_seeds, new_seeds = (x["comparison"]["seeds"] for x in (old, new))
  may_grow = new["comparison"]["halve_by"] is None
  before = dict(_flat(old))
  after = dict(_flat(_without_added(new, old["candidates"]) if may_grow else new))
  if may_grow and set(old_seeds) <= set(new_seeds):
    after["comparison.seeds"] = before["comparison.seeds"]
  return [
    f"{name}: {_short(before, name)} -> {_short(after, name)}"
    for name in dict.fromkeys([*before, *after])
    if before.get(name) != after.get(name)
  ]


def _without_added(new: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a plan without the candidates that are not known yet."""
  comparison = new["comparison"]
  kept = {x: value for x, value in comparison["candidates"].items() if x in known}
  candidates = {x: value for x, value in new["candidates"].items() if x in known}
  return {**new, "comparison": {**comparison, "candidates": kept}, "candidates": candidates}


def _flat(content: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
  for name, value in content.items():
    if isinstance(value, dict):
      yield from _flat(value, f"{start}{name}.")
    else:
      yield f"{start}{name}", value


def _short(values: Mapping[str, Any], name: str) -> str:
  text = str(values[name]) if name in values else "(not there)"
  return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
