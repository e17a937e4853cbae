"""Pilot runs for the batches and rates that MINUTES and FLOPS choose, and a grid to judge a choice.

For each objective a model of width 128 is trained on the bytes of Python's standard library, with
a small budget of FLOPs: with rates until both neighbours of the best are worse, and with half and
twice the rows at the best rate. What follows from them alone is printed. The grid has four widths,
each with three rates, at ten times the budget; the last run is the one that the constants in
t5x_style/planning/size_laws.py choose for it.

Every finished run is a line of the file --records, and is not run again. --case=causal runs one
objective.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style.planning import size_laws, sizing

from ..configuration import reader
from . import transfer

FLAGS = ("gin_file", "gin_bindings", "gin_search_paths", "records", "case", "tiny")
RECORDS = "model_dirs/dial.jsonl"
COLUMNS = {
  "width": ("width", "d"),
  "batch_size": ("rows", "d"),
  "steps": ("steps", "d"),
  "rate": ("rate", ".2e"),
  "loss": ("loss", ".4f"),
  "to_best": ("to best", "+.2%"),
}
LABELS = ("chosen of 2e+12 FLOPs",)
PILOT_BUDGET = 2e11
GRID_BUDGET = 2e12
PILOT_ROWS, PILOT_RATE = 4, -7
GRID_WIDTHS, GRID_RATES, GRID_ROWS = (64, 128, 192, 256), (-9, -8, -7), 8  # rates: powers of two
_BASE = size_laws.BASE_EMB_DIM
_SETTINGS = ("EVAL_BATCHES = 16", "VOCAB_SIZE = 384", "MODEL_DIR = 'unused'")
OBJECTIVES: Mapping[str, tuple[str, Sequence[str]]] = {
  "causal_lm": ("quickstart_causal_lm.gin", ()),
  "masked_lm": (
    "quickstart_masked_lm.gin",
    ("vocabularies.byte_vocabulary.specials_from_extra_ids = ('[CLS]', '[SEP]', '[MASK]')",),
  ),
  "span_corruption": ("quickstart.gin", ()),
}


class Runs:
  """Trains models of one objective, and keeps the losses."""

  def __init__(self, objective: str, config: Any, records: transfer.Records):
    from t5x_style.training.dataset import tokens_per_row

    self.objective, self.config, self._records = objective, config, records
    dataset = self._dataset(config.batch_size)
    self.rows = sizing.Rows(tokens_per_row(dataset.feature_shapes), dataset.max_targets)
    self._held_out = list(dataset.evaluation(config.eval_batches))
    self._streams: dict[int, tuple[Any, list[Any]]] = {}  # by rows: what was read so far
    self._trials: dict[tuple[int, int, int], transfer.Trials] = {}

  def plan(self, width: int, budget: float, rows: int | None = None) -> sizing.Run:
    """Returns the run of a width, with the batch of the table or another one."""
    model = sizing.resized(self.config.model, width)
    run = sizing.plan(model, self.objective, self.rows, budget)
    if rows is None:
      return run
    step = run.step_flops / run.batch_size * rows
    steps = round(budget / step)
    return dataclasses.replace(run, batch_size=rows, train_steps=steps, step_flops=step)

  def loss(self, run: sizing.Run, exponent: float) -> float:
    """Returns the held-out loss of a run with the peak rate 2^exponent."""
    key = (run.model.emb_dim, run.batch_size, run.train_steps)
    if key not in self._trials:
      config = self._of(run)
      batches = functools.partial(self._batches, run.batch_size, run.train_steps)
      self._trials[key] = transfer.Trials(self.objective, config, batches, self._records)
    return self._trials[key].loss(exponent)

  def _of(self, run: sizing.Run) -> Any:
    return dataclasses.replace(
      self.config, model=run.model, batch_size=run.batch_size, train_steps=run.train_steps
    )

  def _dataset(self, rows: int) -> Any:
    config = self.config
    return config.dataset(config.model.architecture, rows, config.seed, 0, 1)

  def _batches(self, rows: int, steps: int) -> Any:
    """Returns the batches of training, and those of evaluation, which have the rows of all runs."""
    if rows not in self._streams:
      self._streams[rows] = (self._dataset(rows).train(), [])
    stream, read = self._streams[rows]
    read += [next(stream) for _ in range(steps - len(read))]
    return read[:steps], _cut(self._held_out, rows)


def _cut(batches: Sequence[Mapping[str, Any]], rows: int) -> list[dict[str, Any]]:
  """Returns the same rows in batches of another size."""
  joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
  count = len(next(iter(joined.values()))) // rows
  return [{name: x[i * rows : (i + 1) * rows] for name, x in joined.items()} for i in range(count)]


def measure(
  gin_file: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  gin_search_paths: Sequence[str] = (),
  records: str | None = None,
  case: str | None = None,
  tiny: bool = False,
) -> Iterator[dict[str, Any]]:
  """Yields a row for each run, and the constants of each objective; see launch.benchmark."""
  from t5x_style.training import train_config

  scale = 1e-2 if tiny else 1.0
  kept = transfer.Records(Path(records or RECORDS))
  for objective, (file, own) in OBJECTIVES.items():
    if case and not objective.startswith(case):
      continue
    files, bindings = [file, "data/bytes.gin", *gin_file], [*_SETTINGS, *own, *gin_bindings]
    settings = reader.read(files, bindings, gin_search_paths)
    runs = Runs(objective, settings.build(train_config.TrainConfig), kept)
    yield from _pilots(runs, scale * PILOT_BUDGET)
    yield from _grid(runs, scale * GRID_BUDGET)


def _pilots(runs: Runs, budget: float) -> Iterator[dict[str, Any]]:
  """Yields the pilot runs and then the constants that follow from them."""
  base = runs.plan(_BASE, budget, PILOT_ROWS)
  of_rates = transfer.search(functools.partial(runs.loss, base), PILOT_RATE)
  for exponent, loss in sorted(of_rates.items()):
    yield _row(runs, budget, base, exponent, loss)
  rate = min(of_rates, key=of_rates.__getitem__)
  of_rows = {round(math.log2(PILOT_ROWS)): of_rates[rate]}
  for rows in (PILOT_ROWS // 2, PILOT_ROWS * 2):
    run = runs.plan(_BASE, budget, rows)
    loss = of_rows[round(math.log2(rows))] = runs.loss(run, rate)
    yield _row(runs, budget, run, rate, loss)
  batch, peak = constants(of_rows, of_rates, runs.rows.tokens, base.tokens)
  yield {
    "group": f"{runs.objective}: pilots",
    "label": f"batch {batch:.3g}, rate {peak:.2g}",
    "batch_constant": batch,
    "best_rate": peak,
  }


def constants(
  of_rows: Mapping[int, float], of_rates: Mapping[int, float], row: int, tokens: float
) -> tuple[float, float]:
  """Returns `batch` and `rate` of size_laws.Law.

  Args:
    of_rows, of_rates: losses by the rows of a batch and by rates, both as powers of two.
    row: tokens of a row; tokens: of a run.
  """
  batch = 2.0 ** transfer.optimum(of_rows) * row / math.sqrt(tokens)
  return batch, 2.0 ** transfer.optimum(of_rates)


def _grid(runs: Runs, budget: float) -> Iterator[dict[str, Any]]:
  """Yields the runs of the grid, and then the one that the table chooses."""
  losses = []
  for width, exponent in itertools.product(GRID_WIDTHS, GRID_RATES):
    run = runs.plan(width, budget, GRID_ROWS)
    losses.append(runs.loss(run, exponent))
    yield _row(runs, budget, run, exponent, losses[-1], "grid")
  chosen = sizing.choose(runs.config.model, runs.objective, runs.rows, budget)
  rate = math.log2(chosen.rate)
  row = _row(runs, budget, chosen, rate, runs.loss(chosen, rate), "chosen")
  yield row | {"to_best": row["loss"] / min(losses) - 1}


def _row(
  runs: Runs, budget: float, run: sizing.Run, exponent: float, loss: float, what: str = "pilot"
) -> dict[str, Any]:
  return {
    "group": f"{runs.objective}: {'pilots' if what == 'pilot' else 'a grid of 12 runs'}",
    "label": f"{what} of {budget:.2g} FLOPs",
    "objective": runs.objective,
    "width": run.model.emb_dim,
    "batch_size": run.batch_size,
    "steps": run.train_steps,
    "rate": 2.0**exponent,
    "loss": loss,
    "parameters": run.parameters,
    "tokens": run.tokens,
    "budget": budget,
  }
