"""What a comparison shows while it runs: which run, of how many, and the time that is left."""

import statistics
import time
from collections.abc import Collection, Sequence

from rich.console import Console

from .processes import Active
from .record import Record

_PERIOD_SECONDS = 60.0  # between two lines where the output is no terminal


class Board:
  """One line that changes in a terminal; elsewhere a line now and then."""

  def __init__(
    self,
    record: Record,
    names: Collection[str],
    at_once: int,
    done: Collection[str] = (),
    console: Console | None = None,
  ):
    """Shows nothing yet.

    Args:
      names: of all runs of this round.
      done: those of them that were done before.
    """
    self._record, self._names, self._at_once = record, names, at_once
    self._total, self._before = len(names), len(done)
    self._console = console or Console()
    self._status = self._console.status("") if self._console.is_terminal else None
    self._shown: dict[str, str] = {}  # {run: stage, or "failed"}
    self._last = time.monotonic()

  def __enter__(self) -> "Board":
    if self._status:
      self._status.start()
    return self

  def __exit__(self, *_: object) -> None:
    if self._status:
      self._status.stop()

  def show(self, active: Sequence[Active]) -> None:
    """Shows what runs: a new line for each run and stage that begins, or that has failed."""
    for current in active:
      self._begun(current)
    for name, noted in self._record.runs.items():
      if noted.get("state") == "failed" and self._shown.get(name) not in (None, "failed"):
        self._shown[name] = "failed"
        line = f"{name} failed: {noted['error']}"
        self._console.print(line, style="red", markup=False, soft_wrap=True)
    line = "; ".join(map(_doing, active)) + self._left(active)
    if self._status:
      self._status.update(line)
    elif active and time.monotonic() - self._last > _PERIOD_SECONDS:
      self._console.print(f"  {line}", markup=False, soft_wrap=True)
      self._last = time.monotonic()

  def _begun(self, current: Active) -> None:
    run = current.job.run
    if self._shown.get(run.name) in (current.stage.name, "failed"):
      return
    self._shown[run.name] = current.stage.name
    number = list(self._shown).index(run.name) + 1 + self._before
    self._console.print(
      f"run {number} of {self._total}: {run.candidate}, seed {run.seed}: {current.stage.name}"
      f"{self._left([current])}",
      markup=False,
      soft_wrap=True,
    )
    self._last = time.monotonic()

  def _left(self, active: Sequence[Active]) -> str:
    """Returns about how long the rest takes, by what the finished runs took."""
    runs = {name: self._record.runs.get(name, {}) for name in self._names}
    finished = [x for x in runs.values() if x.get("state") == "judged"]
    if not finished:
      return ""
    each = statistics.fmean(
      x.get("training_seconds", 0.0) + x.get("judging_seconds", 0.0) for x in finished
    )
    failed = sum(x.get("state") == "failed" for x in runs.values())
    open_runs = max(self._total - len(finished) - failed, 0)
    spent = sum(x.child.seconds for x in active)
    minutes = max(each * open_runs - spent, 0.0) / self._at_once / 60
    return f"; about {minutes:.0f} min left" if minutes >= 1 else "; less than a minute left"


def _doing(current: Active) -> str:
  beat = current.job.heartbeat() if current.stage.name == "training" else {}
  text = f"{current.job.run.candidate}, seed {current.job.run.seed}: "
  if beat.get("pid") and beat.get("step") and beat.get("state") != "finished":
    return f"{text}{beat['state']}, step {beat['step']:,} of {current.job.steps:,}"
  return f"{text}{current.stage.name}"
