"""The table of what became of the runs: as lines for a terminal, or in Markdown."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.soak.outcomes import KINDS, Fault, Outcome

_HEADINGS = (
  "fault",
  "runs",
  "times",
  "survived exactly",
  "recovered",
  "stopped clearly",
  "FAILED",
  "steps trained again",
)


@dataclasses.dataclass
class Result:
  """What became of one run: an outcome, or the reason of a failure, or why it was not tried."""

  fault: Fault
  folder: Path
  outcome: Outcome | None = None
  failure: str = ""
  not_possible: str = ""
  injected: int = 0
  seconds: float = 0.0


def line(result: Result) -> str:
  """Returns a line about one run."""
  said = f"not possible here: {result.not_possible}"
  if result.outcome:
    said = f"{result.outcome.kind}  {result.outcome.note}"
  elif result.failure:
    said = f"FAILED: {result.failure}  {result.folder}"
  return f"{result.fault.name} {result.folder.name}  {result.seconds:.0f} s  {said}"


def rows(results: Iterable[Result]) -> list[list[str]]:
  """Returns the cells of a row for each fault, in the order of the results."""
  by_name: dict[str, list[Result]] = {}
  for result in results:
    by_name.setdefault(result.fault.name, []).append(result)
  return [_row(name, group) for name, group in by_name.items()]


def _row(name: str, group: Sequence[Result]) -> list[str]:
  outcomes = [result.outcome for result in group if result.outcome]
  counts = [sum(outcome.kind == kind for outcome in outcomes) for kind in KINDS]
  failures = sum(bool(result.failure) for result in group)
  again = [outcome.trained_again for outcome in outcomes]
  reasons = {result.not_possible for result in group if result.not_possible}
  return [
    name,
    str(len(outcomes) + failures),
    str(sum(result.injected for result in group)),
    *(str(count or "") for count in (*counts, failures)),
    f"not possible here: {reasons.pop()}" if reasons else _again(again),
  ]


def _again(steps: Sequence[int]) -> str:
  if not any(steps):
    return ""
  return f"{statistics.median(steps):.0f} a run, at most {max(steps)}"


def markdown(results: Iterable[Result]) -> str:
  """Returns the table in Markdown."""
  lines = [_HEADINGS, ["---"] * len(_HEADINGS), *rows(results)]
  return "\n".join(f"| {' | '.join(cells)} |".replace("|  ", "| ") for cells in lines)


def text(results: Iterable[Result]) -> str:
  """Returns the table for a terminal."""
  lines = [list(_HEADINGS), *rows(results)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADINGS))]
  return "\n".join(
    "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
    for line in lines
  )
