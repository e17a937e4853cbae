"""Curves of losses in CSV files: those of a twin run, and those that come with this package."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..process import whole_files

FOLDER = Path(__file__).parent / "curves"
OWN, PEER = "t5x_style", "pytorch"
_SHA = "sha256 of the text"


class Kept(NamedTuple):
  """A file of FOLDER: what made it, as {name: value}, and the loss of PyTorch at each step."""

  facts: dict[str, str]
  losses: list[float]


def write(
  path: Path, facts: Mapping[str, str], columns: Mapping[str, Sequence[float]], sha256: str
) -> None:
  """Writes one line for each step; the first lines say what made the file.

  Args:
    facts: such as {"command": "python -m ..."}.
    columns: {OWN: losses, PEER: losses}.
    sha256: of the text.
  """
  lines = [f"# {name}: {value}" for name, value in {**facts, _SHA: sha256}.items()]
  lines.append(",".join(["step", *columns]))
  for step, values in enumerate(zip(*columns.values(), strict=True), 1):
    lines.append(",".join([str(step), *(f"{value:.6f}" for value in values)]))
  whole_files.write(path, "\n".join(lines) + "\n")


def read(path: Path) -> Kept:
  """Reads a file that `write` wrote."""
  lines = path.read_text().splitlines()
  facts = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
  rows = csv.DictReader(line for line in lines if not line.startswith("#"))
  return Kept(facts, [float(row[PEER]) for row in rows])


def kept(recipe: str, sha256: str) -> Kept | None:
  """Returns the curve of a recipe on the text with this digest, None if none was kept."""
  for path in sorted(FOLDER.glob(f"{recipe}.*.csv")):
    found = read(path)
    if found.facts[_SHA] == sha256:
      return found
  return None


def largest_difference(one: Sequence[float], other: Sequence[float]) -> tuple[float, int]:
  """Returns the largest difference of two curves and the step where it is, from 1.

  It is infinite where one of them is not finite, or if they have different lengths.
  """
  if len(one) != len(other):
    return math.inf, min(len(one), len(other)) + 1
  differences = [abs(a - b) for a, b in zip(one, other, strict=True)]
  differences = [x if math.isfinite(x) else math.inf for x in differences]
  largest = max(differences)
  return largest, 1 + differences.index(largest)
