"""The page of one run, or of several runs beside each other."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Sequence
from typing import Any

from t5x_style.results import config_text, run_charts, run_table
from t5x_style.results.html_page import Page
from t5x_style.results.run_charts import Named, Section
from t5x_style.results.run_folder import VALIDATION, RunRecords, short_names

_MOST_SAMPLES = 5  # steps of which samples stand side by side
_MOST_LINES = 20  # of a list


def page(runs: Sequence[RunRecords], now: float, command: str) -> tuple[Page, list[Section]]:
  """Returns the page of runs, and the charts that are on it.

  Args:
    now: seconds since 1970.
    command: what a reader types to write the page again.
  """
  names = short_names(runs)
  named = list(zip(names, runs, strict=True))
  made = Page(f"Report of {names[0]}" if len(runs) == 1 else f"Report of {len(runs)} runs")
  written = datetime.datetime.fromtimestamp(now, datetime.UTC)
  made.paragraph(f"Written on {written:%Y-%m-%d %H:%M} UTC by: {command}")
  made.contents()
  made.heading("Summary")
  made.table(["", *names] if len(runs) > 1 else [], run_table.summary(runs, now))
  _stages(made, named)
  _notes(made, named)
  sections = run_charts.sections(named)
  _charts(made, named, sections)
  _evaluations(made, named)
  _samples(made, named)
  _settings(made, named)
  _environment(made, named)
  return made, sections


def default_command(program: str, runs: Sequence[RunRecords]) -> str:
  """Returns the command line that writes a report of runs."""
  return shlex.join([*program.split(), *(str(run.folder) for run in runs)])


def _stages(made: Page, named: Sequence[Named]) -> None:
  """Adds the stages of the runs that have several."""
  rows = []
  for name, run in named:
    for number, stage in enumerate(run.stages, start=1):
      steps = [stage.get("first_step"), stage.get("last_step")]
      tokens = " + ".join(map(str, dict(stage.get("tokens_per_row") or {}).values()))
      batch = f"{stage.get('batch_size')} x {tokens} tokens"
      cells = [f"{number}, {stage.get('name')}", f"{steps[0]} to {steps[1]}", batch]
      rows.append([*([name] if len(named) > 1 else []), *cells, str(stage.get("data", ""))])
  if rows:
    made.heading("Stages")
    columns = [*(["run"] if len(named) > 1 else []), "stage", "steps", "batch", "data"]
    made.table(columns, rows, "In charts of steps, dashed lines show where a stage begins.")


def _notes(made: Page, named: Sequence[Named]) -> None:
  """Adds what a reader has to know of the records before the charts are looked at."""
  if not any(run.records for _, run in named):
    made.paragraph("No metrics have been recorded yet.")
  for name, run in named:
    start = f"{name}: " if len(named) > 1 else ""
    if run.damaged_lines:
      made.paragraph(
        f"{start}lines of metrics.jsonl that are no records, and were left out: "
        f"{run.damaged_lines:,}."
      )
    if values := run_table.not_finite(run):
      made.paragraph(f"{start}not finite, and gaps in the curves: {'; '.join(_first(values))}.")
  objectives = {run.settings.get("OBJECTIVE") for _, run in named}
  if len(objectives) > 1:
    made.paragraph(
      "These runs have different objectives: their losses and accuracies are those of different "
      "targets, and cannot be compared with each other. Bits per byte can be, where two runs have "
      "them."
    )


def _charts(made: Page, named: Sequence[Named], sections: Sequence[Section]) -> None:
  for section in sections:
    made.heading(section.heading)
    for _, chart, caption in section.charts:
      made.chart(chart, caption)
  _skipped(made, named, run_charts.EVENTS_HEADING not in [x.heading for x in sections])


def _skipped(made: Page, named: Sequence[Named], with_heading: bool) -> None:
  """Adds why steps were skipped, below the charts of skipped steps if there are some."""
  rows = [
    [*([name] if len(named) > 1 else []), f"{step:,}", reason]
    for name, run in named
    for step, reason in list(run.skipped.items())[:_MOST_LINES]
  ]
  if rows:
    if with_heading:
      made.heading(run_charts.EVENTS_HEADING)
    note = (
      f"The first {_MOST_LINES} of each run at most; MODEL_DIR/skipped_batches has the batches."
    )
    made.table([*(["run"] if len(named) > 1 else []), "step", "why it was skipped"], rows, note)


def _evaluations(made: Page, named: Sequence[Named]) -> None:
  evaluated = [(name, run) for name, run in named if VALIDATION in run.splits()]
  if evaluated:
    made.heading("Evaluations")
    made.paragraph("The newest ones, on held-out text; losses are in nats per target token.")
  for name, run in evaluated:
    if len(named) > 1:
      made.heading(name, level=3)
    columns, rows = run_table.evaluations(run)
    made.table(columns, rows)


def _samples(made: Page, named: Sequence[Named]) -> None:
  sampled = [(name, run) for name, run in named if run.samples]
  if not sampled:
    return
  made.heading("Samples")
  made.paragraph("What the model made of the same held-out texts, in the course of the run.")
  for name, run in sampled:
    if len(named) > 1:
      made.heading(name, level=3)
    shown = run.samples[-_MOST_SAMPLES:]
    for title in shown[-1][1]:
      texts = [(step, texts[title]) for step, texts in shown if title in texts]
      same = _same_lines([text for _, text in texts])
      if same:
        made.passages([(title, "\n".join(same))])
      rest = [(step, "\n".join(text.split("\n")[len(same) :])) for step, text in texts]
      if any(text for _, text in rest):
        start = "" if same else f"{title}, "
        made.passages([(f"{start}step {step:,}", text) for step, text in rest])


def _same_lines(texts: Sequence[str]) -> list[str]:
  """Returns the first lines of texts, as far as all have the same."""
  same = []
  for lines in zip(*(text.split("\n") for text in texts), strict=False):
    if len(set(lines)) > 1:
      break
    same.append(lines[0])
  return same


def _settings(made: Page, named: Sequence[Named]) -> None:
  if len(named) > 1:
    made.heading("Settings that differ")
    differ = config_text.differences([run.settings for _, run in named])
    if differ:
      rows = [[name, *values] for name, values in differ.items()]
      made.table(["setting", *(name for name, _ in named)], rows, "–: the run has no such setting.")
    else:
      made.paragraph("None, besides MODEL_DIR.")
  if not any(run.config or run.model_info for _, run in named):
    return
  made.heading("Configuration")
  for name, run in named:
    start = f"{name}: " if len(named) > 1 else ""
    for file, text in (("config.gin", run.config), ("model-info.txt", run.model_info)):
      if text:
        made.details(f"{start}{file}", text)


def _environment(made: Page, named: Sequence[Named]) -> None:
  columns = [_environment_of(run) for _, run in named]
  names = dict.fromkeys(name for column in columns for name in column)
  if names:
    made.heading("Environment")
    rows = [[name, *(column.get(name) for column in columns)] for name in names]
    made.table(["", *(name for name, _ in named)] if len(named) > 1 else [], rows)


def _environment_of(run: RunRecords) -> dict[str, Any]:
  """Returns what run-info.json says of the newest start."""
  found: dict[str, Any] = {}
  for name, key in (("newest start", "started"), ("which resumed from step", "first_step")):
    if run.info.get(key):
      found[name] = run.info[key]
  if run.info.get("command"):
    found["command"] = run.info["command"]
  for group in ("machine", "environment"):
    found |= run.described(group)
  return {name: f"{x:,}" if isinstance(x, int) else str(x) for name, x in found.items()}


def _first(lines: Sequence[str]) -> list[str]:
  left = len(lines) - _MOST_LINES
  return [*lines[:_MOST_LINES], *([f"and {left:,} more"] if left > 0 else [])]
