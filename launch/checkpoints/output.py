"""How the actions of launch.checkpoint print tables, sizes and progress."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

from etils import epath
from rich.console import Console
from rich.progress import (
  BarColumn,
  DownloadColumn,
  Progress,
  TextColumn,
  TimeRemainingColumn,
  TransferSpeedColumn,
)

from t5x_style.checkpoints import comparison
from t5x_style.checkpoints.arrays import orbax_arrays
from t5x_style.errors import UserError

_LARGE = 1 << 28  # bytes; what is smaller is read before a bar would be seen


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table as text; the last column, of words, is on the left, the others on the right."""
  widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
  lines = [
    "  ".join([*(f"{row[i]:>{width}}" for i, width in enumerate(widths[:-1])), row[-1]])
    for row in (headings, *rows)
  ]
  return "\n".join(f"  {line}".rstrip() for line in lines)


def size_text(size: int) -> str:
  """Returns bytes as "1.5 GB"."""
  unit = 0
  while size >= 1000 ** (unit + 1) and unit < 4:
    unit += 1
  number = size / 1000**unit
  digits = 0 if unit == 0 or number >= 100 else 1
  return f"{number:,.{digits}f} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def bytes_of(checkpoint: epath.Path, key: str | None) -> int:
  """Returns the bytes of the arrays at `key` (None: of all); 0 if they cannot be opened."""
  try:
    return comparison.bytes_of(orbax_arrays(checkpoint / "state", key))
  except UserError:
    return 0


def for_json(number: float | None) -> float | None:
  """Returns None for what JSON has no number for."""
  return number if number is not None and math.isfinite(number) else None


@contextlib.contextmanager
def progress(what: str, size: int) -> Iterator[Callable[[int], None]]:
  """Shows how many of `size` bytes have been read, on a terminal, if they are many.

  It is shown on the standard error: the standard output may be read by a program. The context gives
  a function to call with the bytes that were just read.
  """
  console = Console(stderr=True)
  if size < _LARGE or not console.is_terminal:
    yield lambda done: None
    return
  columns = (
    TextColumn("{task.description}"),
    BarColumn(),
    DownloadColumn(),
    TransferSpeedColumn(),
    TimeRemainingColumn(),
  )
  with Progress(*columns, console=console, transient=True) as bar:
    task = bar.add_task(what, total=size)
    yield lambda done: bar.advance(task, done)
