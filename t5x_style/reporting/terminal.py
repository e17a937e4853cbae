"""What a run shows in the terminal: a header, progress, a summary, all from plain values."""

import contextlib
import math
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from t5x_style.durations import duration
from t5x_style.training.metrics import SHOWN

Values = Mapping[str, float]

_QUIET_SECONDS = 10.0  # Without a bar there is at most one line in this time,
_SILENT_SECONDS = 60.0  # and at least one line in this time, even if a step takes longer.
_SAMPLE_LINES = 10
_REPORTED_WAIT = 0.01  # A smaller share of time spent waiting for data is not shown.
_WIDTH, _LEAST_WIDTH = 96, 24
_LEAST_BAR = 8  # columns of the bar, and of the space around it


class Terminal:
  """Shows one run: with a progress bar on a TTY, with lines in a file or the log of a job."""

  def __init__(
    self,
    enabled: bool = True,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Opens the console and shows nothing yet.

    Args:
      enabled: False in all processes but the first, which print nothing.
      console: the standard output if None.
      clock: seconds.
    """
    self._enabled = enabled
    self._console = console or Console()
    if not self._console.width:  # COLUMNS=0; it would show nothing.
      self._console.width = _WIDTH
    self._clock = clock
    self._bar: Progress | None = None
    self._task = TaskID(0)
    self._status = contextlib.ExitStack()
    self._first = self._last = 0
    self._begun = self._compiling = self._last_line = -math.inf
    self._latest: dict[str, float] = {}

  def header(self, title: str, facts: Mapping[str, str]) -> None:
    """Shows what the run is: one line for each fact (model, data, mesh, ...)."""
    self._print(title, "bold")
    self._facts(facts)

  def started(self, step: int, baseline: float) -> None:
    """Shows that compilation begins. `baseline` is the unigram entropy of the held-out targets."""
    if step:
      self._print(f"Resuming from step {step:,}.")
    self._print(f"A model that knows only how frequent targets are has a loss of {baseline:.3f}.")
    self._begun = self._compiling = self._clock()
    if self._enabled and self._console.is_terminal:
      self._status.enter_context(self._console.status("Compiling the training step"))

  def compiled(self) -> None:
    self._status.close()
    self._print(f"Compiled the training step in {duration(self._clock() - self._compiling)}.")

  def stage_began(self, line: str) -> None:
    """Shows that a stage follows another one, and that its compilation begins."""
    self._print(line)
    self._compiling = self._clock()

  @contextlib.contextmanager
  def progress(self, first: int, last: int) -> Iterator[None]:
    """The context of the loop from step `first` to step `last`."""
    self._first, self._last = first, last
    self._begun, self._last_line = self._clock(), -math.inf
    if not (self._enabled and self._console.is_terminal):
      yield
      return
    columns = (
      TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
      BarColumn(bar_width=None),
      TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=self._console, expand=True) as self._bar:
      self._task = self._bar.add_task("", total=last, completed=first, status="")
      yield
    self._bar = None

  def step(self, step: int) -> None:
    """Shows that a step has been dispatched."""
    if self._bar:
      self._bar.update(self._task, completed=step, status=self._bar_status(step))
    elif self._clock() - max(self._last_line, self._begun) >= _SILENT_SECONDS:
      self._line(step, self._status_line(step))

  def record(self, step: int, split: str, values: Values) -> None:
    """Shows a record, as it is written to metrics.jsonl."""
    if split != "train":
      self._line(step, f"{split}  {describe(values)}", "green")
      return
    self._latest = dict(values)
    due = self._clock() - self._last_line >= _QUIET_SECONDS or step == self._last
    if self._bar:
      self._bar.update(self._task, status=self._bar_status(step))
    elif due:
      self._line(step, self._status_line(step))

  def summary(
    self,
    title: str,
    *,
    train: Values,
    validation: Values,
    reference: Values,
    baseline: float,
    facts: Mapping[str, str],
    sample: Mapping[str, str],
  ) -> None:
    """Shows how a run ended.

    Args:
      title: one line or more.
      train, validation: the last records. Losses are in nats per target token.
      reference: the record of validation before the first step; {} if there is none.
      baseline: unigram entropy of the held-out targets, nats per token.
      facts: {name: text} of other facts, such as the speed and the folder of the run.
      sample: {title: text} that the model wrote; shown before the facts, which are shorter.
    """
    self._print(f"\n{title}", "bold")
    for line in loss_table(train, validation, baseline, reference):
      self._print(f"  {line}")
    for heading, text in sample.items():
      self._print(f"\n  {heading}", "cyan")
      for line in shown_text(text, self._width() - 4):
        self._print(f"    {line}")
    self._print("")
    self._facts(facts)

  def note(self, text: str) -> None:
    """Shows a line."""
    self._print(text)

  def _facts(self, facts: Mapping[str, str]) -> None:
    width = max(map(len, facts), default=0) + 2
    for name, text in facts.items():
      first, *rest = text.splitlines() or [""]
      for label, line in [(name, first), *(("", line) for line in rest)]:
        self._print(Text.assemble((f"  {label:<{width}}", "cyan"), line))

  def _line(self, step: int, text: str, style: str = "") -> None:
    width = len(f"{self._last:,}")
    self._last_line = self._clock()
    self._print(f"step {step:>{width},}/{self._last:,}  {text}", style)

  def _status_line(self, step: int) -> str:
    parts = [describe(self._latest)] if self._latest else []
    done = step - self._first
    if done > 0 and step < self._last:
      left = (self._clock() - self._begun) / done * (self._last - step)
      parts.append(f"{duration(left)} left")
    return "  ".join(parts)

  def _bar_status(self, step: int) -> str:
    """Returns the status line, in a narrow terminal only the loss and the time that is left."""
    room = self._console.width - len(f"step {self._last:,}/{self._last:,}") - _LEAST_BAR
    parts = self._status_line(step).split("  ")
    while len(parts) > 1 and len("  ".join(parts)) > room:
      parts.pop(-2 if len(parts) > 2 else -1)
    return "  ".join(parts)

  def _width(self) -> int:
    """Returns the columns that a text from data or a model may have, with its indentation."""
    if not self._console.is_terminal:
      return _WIDTH + 4
    return max(_LEAST_WIDTH, min(self._console.width, _WIDTH + 4))

  @contextlib.contextmanager
  def waiting(self, text: str) -> Iterator[None]:
    """Shows on a TTY what is being done, until it is done."""
    if not (self._enabled and self._console.is_terminal):
      yield
      return
    with self._console.status(text):
      yield

  def _print(self, text: str | Text, style: str = "") -> None:
    if self._enabled:
      text = Text(text, style) if isinstance(text, str) else text
      self._console.print(text, soft_wrap=True, highlight=False)


def describe(values: Values) -> str:
  """Returns the main values of a record in one line."""
  parts = [
    shown.phrase.format(f"{values[name]:{shown.spec}}")
    for name, shown in SHOWN.items()
    if name in values
  ]
  if skipped := values.get("skipped_steps"):
    parts.append(f"{skipped:,.0f} skipped")
  if spikes := values.get("spikes"):
    parts.append(f"{spikes:,.0f} spike{'s' if spikes > 1 else ''}")
  parts += [f"{name[5:]} {x:.3f}" for name, x in values.items() if name.startswith("loss/")]
  return "  ".join([*parts, *([speed(values)] if "tokens_per_second" in values else [])])


def speed(values: Values) -> str:
  """Returns "12,345 tokens/s", MFU where it is known, and the share of time waiting for data."""
  text = f"{values['tokens_per_second']:,.0f} tokens/s"
  if "mfu" in values:
    text += f"  {values['mfu']:.1%} MFU"
  if values.get("data_wait", 0) >= _REPORTED_WAIT:
    text += f"  {values['data_wait']:.1%} waiting for data"
  return text


def loss_table(train: Values, validation: Values, baseline: float, reference: Values) -> list[str]:
  """Returns the lines of a table of losses, without empty columns."""
  rows = {
    "unigram entropy": {"loss": baseline},
    "before step 1": dict(reference),
    "validation": dict(validation),
    "training": dict(train),
  }
  used = {name: x for name, x in SHOWN.items() if any(name in row for row in rows.values())}
  lines = [" " * 16 + "".join(f"{shown.title:>13}" for shown in used.values())]
  for label, row in rows.items():
    if row:
      cells = [f"{row[name]:{x.spec}}" if name in row else "" for name, x in used.items()]
      lines.append(f"{label:<16}" + "".join(f"{cell:>13}" for cell in cells).rstrip())
  return lines


def shown_text(text: str, width: int = _WIDTH) -> list[str]:
  """Returns the lines of a text from data or a model: wrapped, cut, without control characters.

  Args:
    width: of a line, in characters.
  """
  lines: list[str] = []
  for line in text.splitlines():
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line.expandtabs(4))
    lines += textwrap.wrap(safe, width, drop_whitespace=False, replace_whitespace=False) or [""]
  return lines if len(lines) <= _SAMPLE_LINES else [*lines[:_SAMPLE_LINES], "..."]
