"""Figures of a run that its own records hold: speed, FLOPs, memory, accuracy on masked tokens."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_style.comparison.measures import Measured
from t5x_style.errors import UserError
from t5x_style.results import run_folder
from t5x_style.results.run_folder import RunRecords

_MASKED = frozenset(("masked_lm", "next_sentence", "sentence_order"))


def measured(
  model_dir: Path, step: int, objectives: Sequence[Mapping[str, Any]]
) -> dict[str, Measured]:
  """Returns masked_accuracy, tokens_per_second, flops and memory of a run.

  Args:
    model_dir: of the run; of a file that is missing, the figures are None.
    step: of the checkpoint that is judged.
    objectives: as of LoadedModel.
  """
  try:
    run = run_folder.read(model_dir)
  except UserError as error:
    names = ("masked_accuracy", "tokens_per_second", "flops", "memory")
    return dict.fromkeys(names, Measured(None, str(error)))
  records = [record for record in run.records if record["step"] <= step]
  return {
    "masked_accuracy": _masked_accuracy(records, objectives),
    "tokens_per_second": _speed(records),
    "flops": _flops(run, step),
    "memory": _memory(run),
  }


def _masked_accuracy(records, objectives) -> Measured:
  names = {str(component.get("objective")) for component in objectives}
  if not names <= _MASKED or not names:
    return Measured(None, f"{', '.join(sorted(names)) or 'the training'} masks no single tokens")
  found = [x for x in records if x["split"] == "validation" and "accuracy" in x]
  if not found:
    return Measured(None, "the run has not been evaluated")
  rates = sorted({f"{100 * x['mask_rate']:g} %" for x in objectives if x.get("mask_rate")})
  rate = f" ({' and '.join(rates)} of the tokens are masked)" if rates else ""
  return Measured(
    found[-1]["accuracy"],
    method=f"accuracy on masked tokens in the run's last evaluation{rate}; only runs that mask as "
    "many tokens may be compared",
  )


def _speed(records) -> Measured:
  speeds = [x["tokens_per_second"] for x in records if x.get("tokens_per_second")]
  if not speeds:
    return Measured(None, "metrics.jsonl has no speed")
  return Measured(
    statistics.median(speeds),
    method="median over the records of training; tokens of the rows that the model reads and "
    "writes, per second",
    count=len(speeds),
  )


def _flops(run: RunRecords, step: int) -> Measured:
  if math.isnan(run.step_flops):
    return Measured(None, "the run does not say how many FLOPs a step has")
  return Measured(
    step * run.step_flops,
    method="three times the matrix products of a forward pass, for all steps",
  )


def _memory(run: RunRecords) -> Measured:
  found = re.findall(
    r"^(?:parameters|optimizer), bytes +([\d,]+)", run.model_info, flags=re.MULTILINE
  )
  if len(found) != 2:
    return Measured(None, "the run does not say how large its parameters and its optimizer are")
  size = sum(int(number.replace(",", "")) for number in found)
  return Measured(float(size), method="bytes of the parameters and of the optimizer")
