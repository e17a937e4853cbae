"""The rule by which products in 8 bits stay in this package or leave it."""

from collections.abc import Iterable, Mapping
from typing import Any

FASTER = 1.15  # times as fast as bfloat16, the whole training step
EQUAL_LOSS = 1.005  # times bfloat16's held-out loss, at most, after a run on real text


def verdict(speedup: float | None, loss_ratio: float | None) -> str:
  """Returns "keep", "remove" or "not decided", with the figures.

  Args:
    speedup: bfloat16's seconds a step over those in 8 bits; None if it was not measured.
    loss_ratio: the held-out loss in 8 bits over bfloat16's.
  """
  figures = [
    "the speedup was not measured" if speedup is None else f"{speedup:.2f} times as fast",
    "the loss was not measured" if loss_ratio is None else f"{loss_ratio:.4f} of the loss",
  ]
  rule = f"it stays if {FASTER} times as fast at a loss of at most {EQUAL_LOSS} times bfloat16's"
  too_slow = speedup is not None and speedup < FASTER
  too_bad = loss_ratio is not None and loss_ratio > EQUAL_LOSS
  if too_slow or too_bad:
    decision = "remove it"
  elif speedup is None or loss_ratio is None:
    decision = "not decided"
  else:
    decision = "keep it"
  return f"{decision}: {', '.join(figures)} ({rule})."


def of_rows(steps: Iterable[Mapping[str, Any]], runs: Iterable[Mapping[str, Any]]) -> str:
  """Returns the verdict from the rows of the benchmarks fp8 and text."""
  speedups = [row["speedup"] for row in steps if row["precision"] == "fp8"]
  losses = [row["loss_ratio"] for row in runs if "loss_ratio" in row]
  return verdict(min(speedups, default=None), max(losses, default=None))
