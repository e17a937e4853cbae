"""Held-out loss, perplexity, accuracy and bits per byte of checkpoints, on any text."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from etils import epath

from t5x_style.checkpoints import inventory, reading
from t5x_style.checkpoints.agreement import Agreement
from t5x_style.checkpoints.damage import DamagedError, trouble_is_explained
from t5x_style.likelihoods import Likelihood
from t5x_style.training import evaluation, finite_checks, setup
from t5x_style.training.dataset import Batch
from t5x_style.training.setup import Prepared

from ..configuration import flags
from ..process.errors import ConfigurationError
from . import checkpoint_fit, chosen_steps, held_out, loss_records, loss_table, run_settings
from .compressors import Compressed
from .loss_records import Record

FLAGS = ("step", "all_steps", "text", "all_batches", "json", *flags.DATA, *flags.PROCESSES)
WORDS = ("MODEL_DIR",)


class _Measured(NamedTuple):
  """What was measured of the checkpoints of one stage of a run.

  Attributes:
    facts: {"stage": ..., "data": ..., "batches": ..., "rows": ...}.
    records: of the checkpoints.
    kinds: see loss_records.record.
    compressed: the same text, compressed; None if that is not comparable.
  """

  facts: dict[str, Any]
  records: list[Record]
  kinds: Mapping[str, Likelihood]
  compressed: Compressed | None


def run(values: Any, words: Sequence[str]) -> int:
  folder = inventory.checkpoints_folder(words[0])
  chosen = chosen_steps.chosen(folder, values)
  found = [
    _measured(stage, values, len(chosen))
    for stage in run_settings.of_each_stage(words[0], values, chosen)
  ]
  if jax.process_index() == 0:
    _show(str(folder), found, values.json)
  return int(any("problem" in record for one in found for record in one.records))


def _measured(stage: run_settings.OfStage, values: Any, count: int) -> _Measured:
  """Measures the checkpoints of a stage; `count` are those of all stages."""
  config = stage.config
  with tempfile.TemporaryDirectory() as folder:
    if values.text:
      place = Path(folder) / "cache"
      arguments = held_out.text_arguments(config, values.text, stage.corpus, place)
      config = run_settings.with_data(config, **arguments)
    prepared = _detailed(setup.prepare(config))
    checkpoint_fit.check(stage.checkpoints, prepared)
    batches = _batches(prepared, values.all_batches)
  kinds = _kinds(prepared)
  records = []
  for record in _records(prepared, batches, stage.checkpoints, kinds):
    records.append(record)
    _show_progress(record, count)
  facts = {
    "stage": stage.name,
    "data": values.text or prepared.dataset.description,
    "batches": len(batches),
    "rows": prepared.config.batch_size * len(batches),
  }
  compressed = None
  if jax.process_index() == 0 and any(kind.comparable for kind in kinds.values()):
    compressed = held_out.compressed(prepared.dataset, values.text)
  return _Measured(facts, records, kinds, compressed)


def _show(folder: str, found: Sequence[_Measured], as_json: bool) -> None:
  """Prints what was measured.

  JSON has "checkpoints", "data", "batches", "rows", "steps" and "compressors"; of checkpoints of
  several stages it has "checkpoints" and "stages", of which each has the others.
  """
  if as_json:
    stages = [
      one.facts
      | {
        "steps": one.records,
        "compressors": one.compressed.as_json() if one.compressed else None,
      }
      for one in found
    ]
    more = {"stages": stages} if len(stages) > 1 else stages[0]
    print(json.dumps({"checkpoints": folder, **more}))
    return
  print(folder)
  for one in found:
    title = "stage {stage!r}, " if one.facts["stage"] else ""
    print((title + "{data}: {batches:,} batches, {rows:,} rows\n").format(**one.facts))
    print(loss_table.tables(one.records, one.kinds, one.compressed))
    if one is not found[-1]:
      print()


def _detailed(prepared: Prepared) -> Prepared:
  """Returns the run with a loss that also sums what only evaluations report."""
  token_bytes = held_out.token_bytes(prepared.dataset)
  loss = dataclasses.replace(prepared.loss, token_bytes=token_bytes, detailed=True)
  return dataclasses.replace(prepared, loss=loss)


def _batches(prepared: Prepared, every: bool) -> list[Batch]:
  """Returns the held-out batches: those of the run's evaluations, or all of the split."""
  most: Any = None if every else prepared.config.eval_batches
  if every and not hasattr(prepared.dataset, "feature_lengths"):
    raise ConfigurationError("--all_batches: random batches have no end; leave it out.")
  return list(prepared.dataset.evaluation(most))


def _kinds(prepared: Prepared) -> Mapping[str, Likelihood]:
  """Returns what the loss of each part of a mixture measures; of a single objective {"": ...}."""
  dataset: Any = prepared.dataset
  likelihoods = getattr(dataset, "likelihoods", ())
  names = dataset.component_names or ("",)
  return dict(zip(names, likelihoods, strict=True)) if likelihoods else {}


def _records(
  prepared: Prepared,
  batches: Sequence[Batch],
  chosen: Sequence[epath.Path],
  kinds: Mapping[str, Likelihood],
) -> Iterator[Record]:
  """Measures one checkpoint after the other with one compiled program."""
  measure = evaluation.make_sums(prepared)
  find_not_finite = finite_checks.make_find_not_finite(prepared.abstract.params)
  agreement = Agreement()
  for path in chosen:
    params, reason = _read(path, prepared)
    if reason is None and (names := find_not_finite(params)):
      reason = f"it holds numbers that are not finite, in {finite_checks.listed(names)}"
    reason = agreement.of_all(path.name, reason)
    if reason is None:
      sums = measure(params, batches)
      assert sums is not None
      yield loss_records.record(path.name, sums, kinds)
    else:
      yield loss_records.problem(path.name, reason)
    del params


def _read(path: epath.Path, prepared: Prepared) -> tuple[Any, str | None]:
  """Reads the parameters of a step; returns None and why, if they are missing or damaged."""
  if not path.is_dir():
    return None, "there is no complete checkpoint of this step"
  verify = prepared.config.verify_checkpoints
  try:
    with trouble_is_explained(f"The checkpoint {str(path)!r} cannot be read"):
      return reading.read_params(path, prepared.abstract.params, verify), None
  except DamagedError as error:
    return None, f"damaged: {error}"


def _show_progress(record: Record, count: int) -> None:
  """Says on a terminal what is done, while others of many checkpoints are measured."""
  if count > 1 and jax.process_index() == 0 and sys.stderr.isatty():
    figure = record.get("problem") or f"loss {record['loss']:.4f}"
    print(f"step {record['step']}: {figure}", file=sys.stderr, flush=True)
