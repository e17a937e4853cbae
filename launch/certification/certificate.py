"""The lines of a certificate, as a table for people and as JSON for programs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Verdict = Literal["passed", "failed", "not run"]


@dataclasses.dataclass(frozen=True)
class Line:
  """What one recipe found.

  Attributes:
    name: of the recipe.
    claim: what is compared, with the unit of the figures.
    verdict: "not run" says nothing about the package.
    published: the figure to compare with; None if there is none.
    ours: this package's figure.
    difference: ours less the published one; of curves, the largest one at any step.
    bound: the largest difference, in either direction, with which the recipe passes.
    reason: why it failed or was not run; or against what it was compared.
    details: further figures, JSON.
  """

  name: str
  claim: str
  verdict: Verdict
  published: float | None = None
  ours: float | None = None
  difference: float | None = None
  bound: float | None = None
  reason: str = ""
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def as_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)


def line_of_json(values: Mapping[str, Any]) -> Line:
  """Returns the line that `Line.as_json` wrote."""
  return Line(**values)


def judged(
  name: str, claim: str, published: float, ours: float, bound: float, **others: Any
) -> Line:
  """Returns a line that passes if `ours` differs from `published` by `bound` at most."""
  difference = ours - published
  verdict: Verdict = "passed" if abs(difference) <= bound else "failed"  # Failed if it is NaN.
  return Line(name, claim, verdict, published, ours, difference, bound, **others)


_HEADINGS = ("recipe", "published", "ours", "difference", "bound", "verdict")


def table(lines: Sequence[Line]) -> str:
  """Returns one row for each line; below each, what was compared, and the reason."""
  rows = [_HEADINGS, *map(_cells, lines)]
  widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]

  def text(row: Sequence[str]) -> str:
    first, *numbers, verdict = (
      cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *numbers, verdict]).rstrip()

  shown = [text(_HEADINGS)]
  for line in lines:
    shown += [text(_cells(line)), f"    {line.claim}"]
    shown += [f"    {line.reason}"] if line.reason else []
  return "\n".join(shown)


def _cells(line: Line) -> tuple[str, ...]:
  numbers = (line.published, line.ours, line.difference, line.bound)
  return (line.name, *map(_number, numbers), line.verdict)


def _number(value: float | None) -> str:
  if value is None:
    return "-"
  return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
