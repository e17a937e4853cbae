"""All that a comparison found out, gathered from its files; and results.json, results.csv."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_style.comparison import outcome
from t5x_style.comparison.measures import MEASURES, Measured
from t5x_style.comparison.settings import Comparison

from ..process import whole_files
from . import curves
from .record import Record, Run
from .run_job import read_judged

_DENSITY = "tokens with loss for each token of the text, in some hundred rows of the training data"


@dataclasses.dataclass(frozen=True)
class Judged:
  """A run that reached the whole budget and was judged."""

  run: Run
  model_dir: Path
  noted: Mapping[str, Any]
  measures: Mapping[str, Measured]
  passages: Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Results:
  """What the report shows.

  Attributes:
    facts: {candidate: facts of the plan}, of all candidates.
    judged: {candidate: its judged runs}, of those that reached the whole budget.
    failed: {name of a run: why}.
    curves: {candidate: held-out losses}.
    table: the Table of t5x_style.comparison.outcome.
  """

  comparison: Comparison
  record: Record
  facts: Mapping[str, Any]
  judged: Mapping[str, Sequence[Judged]]
  failed: Mapping[str, str]
  curves: Mapping[str, Sequence[curves.Point]]
  table: outcome.Table
  choices: Sequence[outcome.Choice]


def gather(comparison: Comparison, record: Record) -> Results:
  """Reads what the runs and their judges wrote."""
  facts = record.content["plan"]["candidates"]
  judged: dict[str, list[Judged]] = {}
  for name in comparison.candidates:
    runs = [_judged(comparison, record, Run(name, seed)) for seed in comparison.seeds]
    found = [x for x in runs if x is not None]
    if found:
      judged[name] = found
  table = outcome.table(
    {name: _of_all_seeds(runs, len(comparison.seeds)) for name, runs in judged.items()}
  )
  drawn = {
    name: curves.points([x.model_dir for x in runs], facts[name]["steps"])
    for name, runs in judged.items()
  }
  failed = {name: x["error"] for name, x in record.runs.items() if x.get("state") == "failed"}
  return Results(comparison, record, facts, judged, failed, drawn, table, outcome.choices(table))


def _of_all_seeds(runs: Sequence[Judged], seeds: int) -> list[Mapping[str, Measured]]:
  """Returns the measures of each seed; those of a run that failed have no value."""
  failed = dict.fromkeys(MEASURES, Measured(None, "a run failed"))
  return [*(x.measures for x in runs), *[failed] * (seeds - len(runs))]


def _judged(comparison: Comparison, record: Record, run: Run) -> Judged | None:
  folder = Path(comparison.compare_dir).expanduser()
  content = read_judged(folder / "judged" / f"{run.name}.json")
  facts = record.content["plan"]["candidates"][run.candidate]
  if content.get("step") != facts["steps"]:  # Not judged, or only in a round of halving.
    return None
  measures = {name: Measured.of_json(x) for name, x in content["measures"].items()}
  if run.candidate in record.content["data"]:
    density = record.content["data"][run.candidate]["signal_density"]
    measures["signal_density"] = Measured(density, method=_DENSITY)
  noted = record.runs.get(run.name, {})
  return Judged(run, folder / "runs" / run.name, noted, measures, content["passages"])


def as_json(results: Results) -> dict[str, Any]:
  """Returns the content of results.json."""
  return {
    "comparison": results.record.content["plan"]["comparison"],
    "machine": results.record.content["machine"],
    "data": results.record.content["data"],
    "candidates": {
      name: {key: value for key, value in facts.items() if key not in ("settings", "identity")}
      for name, facts in results.facts.items()
    },
    "rule_of_ties": outcome.RULE,
    "measures": {
      measure: {
        "title": MEASURES[measure].title,
        "unit": "share" if MEASURES[measure].unit == "%" else MEASURES[measure].unit,
        "better": MEASURES[measure].better,
        "candidates": {name: x._asdict() for name, x in summaries.items()},
      }
      for measure, summaries in results.table.items()
    },
    "choices": [x._asdict() for x in results.choices],
    "curves": {name: [x._asdict() for x in found] for name, found in results.curves.items()},
    "runs": {
      x.run.name: {
        "candidate": x.run.candidate,
        "seed": x.run.seed,
        "model_dir": f"runs/{x.run.name}",
        "measures": {name: y.as_json() for name, y in x.measures.items()},
      }
      for runs in results.judged.values()
      for x in runs
    },
    "failed": dict(results.failed),
    "rounds": results.record.content["rounds"],
  }


def as_csv(results: Results) -> str:
  """Returns results.csv: a line for each judged run, with its measures; empty cells: no value."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  names = list(results.table)
  writer.writerow(["candidate", "seed", "model_dir", "steps", *names])
  for runs in results.judged.values():
    for x in runs:
      steps = results.facts[x.run.candidate]["steps"]
      values = [x.measures[name].value if name in x.measures else None for name in names]
      cells = ["" if value is None else value for value in values]
      writer.writerow([x.run.candidate, x.run.seed, f"runs/{x.run.name}", steps, *cells])
  return text.getvalue()


def write_files(results: Results, folder: Path) -> None:
  """Writes results.json and results.csv."""
  whole_files.write_json(folder / "results.json", as_json(results))
  whole_files.write(folder / "results.csv", as_csv(results))
