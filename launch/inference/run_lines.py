"""Runs a task on the lines of a file, part by part, and records what came of each line."""

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from t5x_style.errors import UserError

from . import records
from .input_lines import InputFile, Request

_BATCHES = 16  # of a part: so many that most are full, though lines have different lengths
_SECONDS = 30  # between two lines about the progress where no bar can be shown

Records = Sequence[Mapping[str, Any]]


class TextTask(Protocol):
  """What is done with texts: `prompt` reads one, or raises UserError; `run` does several."""

  def prompt(self, text: str, mode: str | None = None) -> Any: ...

  def run(self, rows: Sequence[Any], seed: int, first_row: int) -> Sequence[Any]: ...


class Totals:
  """How many lines are done, and how many of them could not be used."""

  def __init__(self, done: int = 0, errors: int = 0):
    self.done, self.errors = done, errors


def run(
  task: TextTask,
  lines: InputFile,
  write: Callable[[Records], None],
  totals: Totals,
  seed: int,
  batch_size: int,
) -> None:
  """Does all lines that are not done yet, in parts, each of which is written before the next one.

  With the same batch size a line gives the same, wherever an earlier process ended.

  Args:
    write: keeps the records of a part of the lines.
    totals: the lines that are done already; it is kept up to date.
    seed: of the draws.
    batch_size: rows that are computed at once.
  """
  at_once = _BATCHES * batch_size
  # The part in which an earlier process ended is done again as a whole: what a row gives may depend
  # on its batch in the last bits.
  first = totals.done // at_once * at_once
  requests = lines.requests(first)
  with _progress(lines.count, totals) as advance:
    for start in itertools.count(first, at_once):
      part = list(itertools.islice(requests, at_once))
      if not part:
        return
      found = of_requests(task, part, seed, start)[max(totals.done - start, 0) :]
      write(found)
      totals.done += len(found)
      totals.errors += sum("error" in record for record in found)
      advance(len(found))


def of_requests(
  task: TextTask, requests: Sequence[Request], seed: int, first_row: int
) -> list[dict[str, Any]]:
  """Returns the records of lines: results, or what is wrong with a line."""
  found: list[dict[str, Any]] = []
  rows, places = [], []
  for place, request in enumerate(requests):
    error = request.error
    if not error:
      try:
        rows.append(task.prompt(request.text, request.mode))
        places.append(place)
      except UserError as caught:
        error = str(caught)
    # A field "error" of the line would be taken for ours.
    fields = {name: value for name, value in request.fields.items() if name != "error"}
    found.append(fields | ({"error": error, "line": first_row + place + 1} if error else {}))
  for place, result in zip(places, task.run(rows, seed, first_row), strict=True):
    found[place] |= records.of_result(result)
  return found


@contextlib.contextmanager
def _progress(count: int, totals: Totals) -> Iterator[Callable[[int], None]]:
  """Shows how many lines are done, on the standard error."""
  console = Console(stderr=True)
  if not console.is_terminal:
    last = time.monotonic()

    def say(done: int) -> None:
      nonlocal last
      if time.monotonic() - last > _SECONDS:
        last = time.monotonic()
        print(f"{totals.done:,} of {count:,} lines", file=sys.stderr, flush=True)

    yield say
    return
  columns = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
  )
  with Progress(*columns, console=console, transient=True) as bar:
    task = bar.add_task("Lines", total=count, completed=totals.done)
    yield lambda done: bar.advance(task, done)
