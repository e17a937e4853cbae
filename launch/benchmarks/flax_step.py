"""This package's side of the comparison: the training step of a run, on batches made beforehand."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from t5x_style.training import setup
from t5x_style.training.step import compile_step

Batch = dict[str, np.ndarray]


class FlaxStep:
  """A run whose step is compiled and whose state is made: `step` trains on one batch."""

  label = "t5x_style"

  def __init__(self, prepared: setup.Prepared, batches: Sequence[Batch]):
    self._prepared = prepared
    start = time.perf_counter()
    self._compiled = compile_step(prepared)
    self.compile_seconds = time.perf_counter() - start
    self.state = prepared.init(prepared.config.seed)
    self._batches = [prepared.partitioner.put(batch) for batch in batches]

  def step(self, number: int) -> Any:
    """Starts training on batch `number`, without waiting; gives what `loss` reads."""
    self.state, metrics = self._compiled(self.state, self._batches[number % len(self._batches)])
    return metrics

  def loss(self, metrics: Any) -> float:
    """Waits for a step; its loss in nats per target token."""
    sums = jax.device_get(metrics.sums)
    return float(sums.loss / sums.weight)

  def rest(self) -> None:
    """Between its turns: JAX keeps the memory it has."""

  def peak_bytes(self) -> int | None:
    """The most memory a device held; where it does not say, what the compiled step asks for."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
      return stats["peak_bytes_in_use"]
    memory = self._compiled.memory_analysis()
    if memory is None:
      return None
    return (
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      + memory.temp_size_in_bytes
      - memory.alias_size_in_bytes
    )
