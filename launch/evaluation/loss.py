"""Held-out loss, perplexity, accuracy and bits per byte of checkpoints, on any text."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from .loss_records import Record

FLAGS = ("step", "all_steps", "text", "all_batches", "json", *flags.DATA, *flags.PROCESSES)
WORDS = ("MODEL_DIR",)


def run(values: Any, words: Sequence[str]) -> int:
  folder = inventory.checkpoints_folder(words[0])
  chosen = chosen_steps.chosen(folder, values)
  config = run_settings.read(words[0], values)
  if values.text:
    config = run_settings.with_data(config, **held_out.text_arguments(config, values.text))
  prepared = _detailed(setup.prepare(config))
  checkpoint_fit.check(chosen, prepared)
  batches = _batches(prepared, values.all_batches)
  kinds = _kinds(prepared)
  records = []
  for record in _records(prepared, batches, chosen, kinds):
    records.append(record)
    _show_progress(record, len(chosen))
  if jax.process_index() == 0:
    facts = {
      "checkpoints": str(folder),
      "data": values.text or prepared.dataset.description,
      "batches": len(batches),
      "rows": prepared.config.batch_size * len(batches),
    }
    compared = any(kind.comparable for kind in kinds.values())
    compressed = held_out.compressed(prepared.dataset, values.text) if compared else None
    if values.json:
      figures = compressed.as_json() if compressed else None
      print(json.dumps({**facts, "steps": records, "compressors": figures}))
    else:
      header = "{checkpoints}\n{data}: {batches:,} batches, {rows:,} rows\n".format(**facts)
      print(header, loss_table.tables(records, kinds, compressed), sep="\n")
  return int(any("problem" in record for record in records))


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
