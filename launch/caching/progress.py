"""What launch.cache shows while it works: how much of a step is done, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_PERIOD_SECONDS = 30.0  # between two lines where the output is no terminal


class Shown:
  """The progress of one step."""

  def __init__(self, title: str, total: int, before: int, bar: Progress | None, console: Console):
    self._title, self._total, self._before = title, total, before
    self._bar, self._console = bar, console
    self._task = bar.add_task(title, total=total, completed=before) if bar else None
    self._start = self._last = time.monotonic()

  def update(self, done: int) -> None:
    """Shows that `done` of the total are done, those before this start included."""
    if self._bar and self._task is not None:
      self._bar.update(self._task, completed=done)
      return
    now = time.monotonic()
    if now - self._last > _PERIOD_SECONDS:
      self._last = now
      self._console.print(f"  {self._line(done, now)}", markup=False, soft_wrap=True)

  def _line(self, done: int, now: float) -> str:
    line = f"{self._title}: {done / max(1, self._total):.0%}"
    new = done - self._before
    if new > 0:
      seconds = (now - self._start) / new * (self._total - done)
      line += f", about {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"
    return line


@contextmanager
def shown(title: str, total: int, before: int, console: Console | None = None) -> Iterator[Shown]:
  """Shows a step: a bar in a terminal, elsewhere a line now and then.

  Args:
    title: of the step.
    total: of what is counted.
    before: how much of it was done before this start.
  """
  console = console or Console()
  if not console.is_terminal:
    yield Shown(title, total, before, None, console)
    return
  columns = (
    TextColumn("{task.description}"),
    BarColumn(),
    TextColumn("{task.percentage:>3.0f}%"),
    TimeRemainingColumn(),
    TextColumn("left"),
  )
  with Progress(*columns, console=console) as bar:
    yield Shown(title, total, before, bar, console)
