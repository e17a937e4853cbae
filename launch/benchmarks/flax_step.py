"""This package's side of a comparison: the training step of a run, on given batches."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from t5x_style.planning import compilation
from t5x_style.training import setup
from t5x_style.training.step import compile_step

Batch = dict[str, np.ndarray]


class FlaxStep:
  """A run with a compiled step and a state: `step` trains on one batch. See step.Contestant."""

  label = "t5x_style"

  def __init__(self, prepared: setup.Prepared, batches: Sequence[Batch]):
    self._prepared = prepared
    start = time.perf_counter()
    self._compiled = compile_step(prepared)
    self.compile_seconds = time.perf_counter() - start
    self.state = prepared.init(prepared.config.seed)
    self._batches = [prepared.partitioner.put(batch) for batch in batches]

  @property
  def program(self) -> str:
    """The text of the compiled step."""
    return self._compiled.as_text() or ""

  def step(self, number: int) -> Any:
    """Starts training on batch `number`, without waiting; returns what `loss` reads."""
    self.state, metrics = self._compiled(self.state, self._batches[number % len(self._batches)])
    return metrics

  def loss(self, metrics: Any) -> float:
    """Waits for a step and returns its loss in nats per target token."""
    sums = jax.device_get(metrics.sums)
    return float(sums.loss / sums.weight)

  def rest(self) -> None:
    """Does nothing: JAX keeps its memory between its turns."""

  def peak_bytes(self) -> int | None:
    """Returns the most bytes that a device held, or else those that the compiled step needs."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
      return stats["peak_bytes_in_use"]
    memory = compilation.memory(self._compiled)
    return memory and memory.total - memory.code
