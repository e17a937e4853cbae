"""Files of minimal pairs, as BLiMP's: what a line holds, and accuracies of groups of pairs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.errors import UserError

GROUPINGS = ("field", "linguistics_term", "UID")  # keys of a line, the coarsest first
_SENTENCES = ("sentence_good", "sentence_bad")
_Z = 1.959963984540054  # standard errors on each side of a 95 % interval


class Pair(NamedTuple):
  """Two sentences that differ in one respect, of which only the first is grammatical.

  Attributes:
    place: "FILE:LINE".
    groups: the value of each of GROUPINGS that the line has.
  """

  good: str
  bad: str
  place: str
  groups: Mapping[str, str]


class LeftOut(NamedTuple):
  """A line that holds no pair that can be scored."""

  place: str
  reason: str


def files_of(words: Sequence[str]) -> list[Path]:
  """Returns the files that a command line names; a folder stands for its .jsonl files.

  Raises:
    UserError: there is no such file, or the folder has none.
  """
  found: list[Path] = []
  for word in words:
    path = Path(word).expanduser()
    if not path.exists():
      raise UserError(f"{word!r} does not exist; give a JSONL file of pairs, or a folder of them.")
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
      raise UserError(f"{word!r} has no file that ends with .jsonl.")
    found += files
  return found


def read(files: Sequence[Path]) -> Iterator[Pair | LeftOut]:
  """Yields what each line holds; empty lines are skipped.

  A line without UID has the name of its file, as BabyLM's supplement to BLiMP.

  Raises:
    UserError: a file cannot be read.
  """
  for file in files:
    try:
      lines = file.read_bytes().splitlines()
    except OSError as error:
      raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    for number, line in enumerate(lines, 1):
      if line.strip():
        yield _parsed(line, f"{file}:{number}", file.stem)


def _parsed(line: bytes, place: str, stem: str) -> Pair | LeftOut:
  try:
    values = json.loads(line)
  except ValueError as error:  # Also of bytes that are not UTF-8.
    return LeftOut(place, f"it is not JSON ({error})")
  if not isinstance(values, dict):
    return LeftOut(place, 'it is not a JSON object, {"sentence_good": ..., "sentence_bad": ...}')
  for name in _SENTENCES:
    if not isinstance(values.get(name), str):
      return LeftOut(place, f"it has no text {name!r}")
  good, bad = (values[name] for name in _SENTENCES)
  if good == bad:
    return LeftOut(place, "its two sentences are the same")
  groups = {"UID": stem} | {k: str(values[k]) for k in GROUPINGS if values.get(k) is not None}
  return Pair(good, bad, place, groups)


@dataclasses.dataclass
class Accuracy:
  """How often the good sentence of a pair has the higher score; ties are not correct."""

  pairs: int = 0
  correct: int = 0
  ties: int = 0

  def add(self, difference: float) -> None:
    """Counts one pair: the score of its good sentence minus that of its bad one."""
    self.pairs += 1
    self.correct += difference > 0
    self.ties += difference == 0

  @property
  def share(self) -> float:
    return self.correct / self.pairs

  @property
  def interval(self) -> tuple[float, float]:
    """Wilson's 95 % interval of the share (Wilson 1927), which also holds for few pairs."""
    n, p = self.pairs, self.share
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)

  def as_json(self) -> dict[str, Any]:
    return {
      "pairs": self.pairs,
      "correct": self.correct,
      "ties": self.ties,
      "accuracy": self.share,
      "interval_95": list(self.interval),
    }


class Accuracies(NamedTuple):
  """The accuracy of all pairs, and of those of each group: {grouping: {group: accuracy}}."""

  total: Accuracy
  groups: Mapping[str, Mapping[str, Accuracy]]

  @property
  def mean_of_uids(self) -> float:
    """The mean of the accuracies of the UIDs, which BLiMP reports: there each has 1,000 pairs."""
    shares = [accuracy.share for accuracy in self.groups["UID"].values()]
    return sum(shares) / len(shares)


def count(pairs: Sequence[Pair], score: Callable[[str], float]) -> Accuracies:
  """Returns the accuracies of pairs, of which there is at least one, by the score of a text."""
  total = Accuracy()
  groups: dict[str, dict[str, Accuracy]] = {grouping: {} for grouping in GROUPINGS}
  for pair in pairs:
    difference = score(pair.good) - score(pair.bad)
    total.add(difference)
    for grouping, group in pair.groups.items():
      groups[grouping].setdefault(group, Accuracy()).add(difference)
  return Accuracies(total, groups)
