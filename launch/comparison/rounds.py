"""Trains and judges all runs of a comparison: in one round, or in those of successive halving."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t5x_style.comparison import budget, halving, outcome
from t5x_style.comparison.measures import MEASURES, Measured
from t5x_style.comparison.settings import Comparison, folder_name

from ..process.errors import ConfigurationError
from . import arguments, processes
from .progress import Board
from .record import Record, Run
from .run_job import RunJob, read_metrics

_SPEED_STEPS, _SPEED_PERIOD = 24, 4  # of the short run that measures the speed


def measure_speeds(
  given: arguments.Given, comparison: Comparison, record: Record, signals: processes.Signals
) -> None:
  """Measures the seconds of a step of each candidate, and notes them; done ones are skipped.

  Raises:
    ConfigurationError: a short run failed.
    processes.Stopped: by a signal.
  """
  folder = Path(comparison.compare_dir).expanduser() / "speed"
  for name in comparison.candidates:
    if name in record.content["speeds"]:
      continue
    print(f"Measuring the speed of {name} in {_SPEED_STEPS} steps.", flush=True)
    model_dir = folder / folder_name(name)
    planned = {
      "TRAIN_STEPS": _SPEED_STEPS,
      "EVAL_PERIOD": _SPEED_STEPS,
      "SAVE_PERIOD": _SPEED_STEPS,
      "LOG_PERIOD": _SPEED_PERIOD,
      "RANDOM_SEED": comparison.seeds[0],
      "MODEL_DIR": str(model_dir),
    }
    own = arguments.of_run(given, comparison, name, planned)
    log_file = folder / f"{folder_name(name)}.log"
    # On as much of the machine as each run will have.
    place = processes.places(comparison.at_once)[0]
    processes.run("train", own.as_arguments(), log_file, signals, place)
    log = [(x["step"], x["seconds"]) for x in read_metrics(model_dir) if x["split"] == "train"]
    record.content["speeds"][name] = round(budget.seconds_per_step(log), 6)
    record.save()


def jobs(
  given: arguments.Given,
  comparison: Comparison,
  record: Record,
  candidates: Sequence[str],
  share: float = 1.0,
) -> list[RunJob]:
  """Returns the runs of some candidates: all with the first seed, then all with the second.

  Args:
    share: of the budget that they reach in this round.
  """
  planned = record.content["plan"]["candidates"]
  found = []
  for seed in comparison.seeds:
    for name in candidates:
      steps = planned[name]["steps"]
      reached = max(1, round(steps * share))
      run = Run(name, seed)
      found.append(RunJob(run, reached, steps, given, comparison, record))
  return found


def run_all(
  given: arguments.Given, comparison: Comparison, record: Record, signals: processes.Signals
) -> None:
  """Trains and judges all runs.

  Raises:
    ConfigurationError: halving cannot continue, because runs failed or lack the measure.
    processes.Stopped: by a signal.
  """
  places = processes.places(comparison.at_once)
  names = list(comparison.candidates)
  rounds = halving.rounds(len(names)) if comparison.halve_by else [halving.Round(len(names), 1.0)]
  for number, current in enumerate(rounds):
    if len(rounds) > 1:
      print(
        f"Round {number + 1} of {len(rounds)}: {', '.join(names)} up to {current.share:.0%} of the "
        "budget.",
        flush=True,
      )
    todo = jobs(given, comparison, record, names, current.share)
    if number < len(record.content["rounds"]):  # It was finished before.
      names = record.content["rounds"][number]["kept"]
      continue
    runs, done = [x.run.name for x in todo], [x.run.name for x in todo if x.is_done()]
    with Board(record, runs, comparison.at_once, done) as board:
      processes.run_all(todo, places, board.show, signals)
      board.show([])
    if number + 1 < len(rounds):
      names = _kept(comparison, record, todo, current, rounds[number + 1].candidates)


def _kept(
  comparison: Comparison,
  record: Record,
  done: Sequence[RunJob],
  current: halving.Round,
  keep: int,
) -> list[str]:
  """Returns the candidates that train on, and notes why."""
  failed = [x.run.name for x in done if record.runs[x.run.name]["state"] == "failed"]
  if failed:
    raise ConfigurationError(
      f"{', '.join(failed)} failed, so the better half is not known; see the .log files in "
      f"{Path(comparison.compare_dir) / 'runs'}, and start the same command again."
    )
  measure = comparison.halve_by
  assert measure is not None
  found: dict[str, list[Measured]] = {}
  for job in done:
    measured = job.measures().get(measure, Measured(None))
    found.setdefault(job.run.candidate, []).append(measured)
  values = {name: outcome.summary(seeds).mean for name, seeds in found.items()}
  kept = halving.survivors(values, MEASURES[measure].better, keep, measure)
  noted: dict[str, Any] = {"share": current.share, "measure": measure, "values": values}
  record.content["rounds"].append(noted | {"kept": kept})
  record.save()
  return kept
