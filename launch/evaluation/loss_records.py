"""What launch.eval loss reports of a checkpoint, by name: from sums on the device to numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from t5x_style.likelihoods import Likelihood
from t5x_style.training.metrics import Sums

Record = dict[str, Any]


def record(step: str, sums: Sums, kinds: Mapping[str, Likelihood]) -> Record:
  """Returns the figures of a checkpoint.

  Args:
    step: the name of its folder.
    sums: over all held-out batches.
    kinds: {part of a mixture: its kind}, or {"": kind} of a single objective; {} if unknown.

  Returns:
    "step"; of all target tokens with loss "tokens" (weighted), "loss" (nats per token),
    "perplexity", "accuracy", and if all of them are of one kind "bits_per_byte", "bytes" (weighted
    as tokens are), "method" and "comparable"; "exact_match" of answers; "pair_loss" and
    "pair_accuracy" of sentence pairs; and for a mixture "parts", the same figures by name. What is
    not defined is left out.
  """
  every = set(kinds.values())
  whole = _figures(
    sums.loss, sums.weight, sums.correct, sums.bytes, every.pop() if len(every) == 1 else None
  )
  found: Record = {"step": int(step) if step.isdigit() else step, **whole}
  if sums.sequences is not None:
    count = max(float(sums.sequences), 1e-9)
    found["exact_match"] = float(sums.sequences_right) / count  # type: ignore[arg-type]
  if sums.pair_weight is not None:
    pairs = max(float(sums.pair_weight), 1e-9)
    found["pair_loss"] = float(sums.pair_loss) / pairs  # type: ignore[arg-type]
    found["pair_accuracy"] = float(sums.pair_correct) / pairs  # type: ignore[arg-type]
  if sums.component_weight is not None:
    found["parts"] = {
      name: _figures(*_of_component(sums, index), kind)
      for index, (name, kind) in enumerate(kinds.items())
      if sums.component_weight[index] > 0
    }
  return found


def problem(step: str, reason: str) -> Record:
  """Returns the record of a checkpoint that could not be measured."""
  return {"step": int(step) if step.isdigit() else step, "problem": reason}


def _of_component(sums: Sums, index: int) -> tuple[Any, Any, Any, Any]:
  fields = ("loss", "weight", "correct", "bytes")
  values = (getattr(sums, f"component_{field}") for field in fields)
  loss, weight, correct, size = (None if x is None else x[index] for x in values)
  return loss, weight, correct, size


def _figures(nats: Any, weight: Any, correct: Any, size: Any, kind: Likelihood | None) -> Record:
  weight = max(float(weight), 1e-9)
  loss = float(nats) / weight
  found = {"tokens": weight, "loss": loss, "perplexity": math.exp(min(loss, 700.0))}
  if correct is not None:
    found["accuracy"] = float(correct) / weight
  if kind is not None and size is not None and float(size) > 0:
    bits = float(nats) / math.log(2) / float(size)
    found |= {"bits_per_byte": bits, "bytes": float(size)}
    found |= {"method": kind.name, "comparable": kind.comparable}
  return found
