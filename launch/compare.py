"""Compares objectives and models on one text: python -m launch.compare --gin_file=compare.gin

Trains each candidate with several seeds under one budget, has all judged on the same held-out
passages, and writes a report. The same command resumes where it was interrupted.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from t5x_style.comparison import budget, halving
from t5x_style.comparison.settings import Comparison
from t5x_style.errors import UserError

from .comparison import arguments, gin_settings, plan_table, processes, record, rounds
from .configuration import flags
from .process import command, environment, errors
from .process.exit_codes import ExitCode

EXAMPLES = """\
python -m launch.compare --gin_file=compare.gin --dry_run
python -m launch.compare --gin_file=compare.gin --gin.SEEDS="(0,)" --gin.AMOUNT=2e12
python -m launch.compare --gin_file=ablations/masking_rate.gin
python -m launch.compare --gin_file=compare.gin --gin_file=data/text_files.gin \\
  --gin.CORPUS_FILES="'my/*.txt'" --gin.VOCABULARY_FILE=my.model --gin.CLASSIFICATION=None \\
  --gin.COMPARE_DIR=my_comparison"""

_ABOUT = """\
Trains candidates under one budget, judges them, and reports what to choose.

Exit codes: 0; 1 if a run failed (the rest is done); 130 and 75 after Ctrl-C and SIGTERM; others are
errors."""


def main(argv: Sequence[str]) -> int:
  values, words = flags.parse_own(argv, about=_ABOUT, examples=EXAMPLES, define=_define)
  if words:
    hint = f" Did you mean --gin_file={words[0]}?" if words[0].endswith(".gin") else ""
    raise errors.ConfigurationError(f"The argument {words[0]!r} belongs to no flag.{hint}")
  environment.quieten(os.environ)
  given = arguments.Given.of_flags(values)
  try:
    with errors.as_configuration_errors():
      comparison = gin_settings.read(given)
      if values.dry_run:
        return _dry_run(given, comparison)
      return _run(given, comparison, argv)
  except processes.Stopped as stopped:
    print(
      f"\nStopped by {stopped}; all is saved. The same command resumes from here.",
      file=sys.stderr,
      flush=True,
    )
    interrupted = stopped.number == signal.SIGINT
    return ExitCode.INTERRUPTED if interrupted else ExitCode.PREEMPTED


def _define(values: absl_flags.FlagValues) -> None:
  flags.define_data(values)
  absl_flags.DEFINE_bool(
    "dry_run", False, "Print the plan: steps, tokens and FLOPs of each run.", flag_values=values
  )


def _run(given: arguments.Given, comparison: Comparison, argv: Sequence[str]) -> int:
  from .comparison import report

  folder = Path(comparison.compare_dir).expanduser()
  folder.mkdir(parents=True, exist_ok=True)
  with _lease(folder), processes.Signals() as signals:
    kept = record.Record(folder)
    known = kept.content["data"]
    more = [f"--data_figures={name}" for name in comparison.candidates if name not in known]
    more.append(f"--passages={folder / 'passages.jsonl'}")
    facts = _facts(given, comparison, folder / "describe.log", signals, more)
    known |= facts["data"]
    if comparison.budget == "seconds":
      rounds.measure_speeds(given, comparison, kept, signals)
    steps = _steps(comparison, facts["candidates"], kept)
    kept.begin(record.plan(comparison, facts["candidates"], steps), facts["machine"])
    print(
      plan_table.text(comparison, kept.content["plan"]["candidates"], kept.content["data"]),
      flush=True,
    )
    rounds.run_all(given, comparison, kept, signals)
    words = [f"python -m {environment.PACKAGE}.compare", *map(flags.quoted, argv[1:])]
    result = report.write(comparison, kept, " ".join(words))
  print(f"\n{result.text}", flush=True)
  return ExitCode.UNEXPECTED if result.failed else ExitCode.FINISHED


def _lease(folder: Path) -> contextlib.AbstractContextManager[Any]:
  """Returns the lease of this process on COMPARE_DIR.

  Raises:
    ConfigurationError: another comparison writes there.
  """
  from t5x_style.checkpoints.lease import Lease

  try:
    return Lease(folder, command.end_at_once)
  except UserError as error:
    text = str(error).replace("MODEL_DIR", "COMPARE_DIR").replace("Two runs", "Two comparisons")
    raise errors.ConfigurationError(text) from error


def _dry_run(given: arguments.Given, comparison: Comparison) -> int:
  folder = Path(comparison.compare_dir).expanduser()
  kept = record.Record(folder)
  more = [f"--data_figures={name}" for name in comparison.candidates]
  with tempfile.TemporaryDirectory() as elsewhere, processes.Signals() as signals:
    found = _facts(given, comparison, Path(elsewhere) / "describe.log", signals, more)
  facts = found["candidates"]
  kept.content["data"] = found["data"] | kept.content["data"]
  if comparison.budget == "seconds" and facts.keys() - kept.content["speeds"]:
    steps: Mapping[str, int | None] = dict.fromkeys(facts)
  else:
    steps = _steps(comparison, facts, kept)
  planned = {name: {**facts[name], "steps": steps[name]} for name in comparison.candidates}
  print(plan_table.text(comparison, planned, kept.content["data"]))
  print("This was a dry run: nothing was trained.")
  return ExitCode.FINISHED


def _facts(
  given: arguments.Given,
  comparison: Comparison,
  log: Path,
  signals: processes.Signals,
  more: Sequence[str] = (),
) -> Mapping[str, Any]:
  """Returns what launch.comparison.describe, with `more` flags, found out about the candidates."""
  print(f"Opening the data of {len(comparison.candidates)} candidates.", flush=True)
  with tempfile.TemporaryDirectory() as folder:
    output = Path(folder) / "facts.json"
    words = [*given.as_arguments(), f"--output={output}", *more]
    processes.run("comparison.describe", words, log, signals)
    return json.loads(output.read_text())


def _steps(comparison: Comparison, facts: Mapping[str, Any], kept: record.Record) -> dict[str, int]:
  """Returns {candidate: steps} of the whole budget."""
  speeds, data = kept.content["speeds"], kept.content["data"]
  costs = {
    "flops": lambda name: facts[name]["step_flops"],
    "tokens": lambda name: facts[name]["step_positions"] * data[name]["filled"],
    "seconds": lambda name: speeds[name],
  }[comparison.budget]
  amounts = {name: costs(name) for name in facts}
  if comparison.halve_by:  # Refused before the first round, if that would be too short.
    share = halving.rounds(len(facts))[0].share
    budget.steps(comparison.budget, comparison.amount * share, amounts)
  return budget.steps(comparison.budget, comparison.amount, amounts)


if __name__ == "__main__":
  command.run(main)
