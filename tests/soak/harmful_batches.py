"""A dataset in which some batches harm a run; gin files bind it in place of the run's dataset."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from t5x_style.setting_types import PositiveInt, Text
from t5x_style.training.dataset import Batch, BatchIterator, Dataset, LoadDataset
from tests.wrapped_batches import WrappedDataset, WrappedIterator

_NUMBER = "harmful_batches"  # a stream beside those of the data: the number of batches so far
# The weights of a spike: their sum is small, so the mean loss and its gradient are huge.
_SPIKE = 1e-4


def load(
  architecture: str,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  *,
  dataset: LoadDataset,
  harm: Literal["nan", "spike", "left out", "block"],
  first: PositiveInt,
  count: PositiveInt = 1,
  once: Text | None = None,
) -> Dataset:
  """Opens the dataset of a run; a function for `TrainConfig.dataset`.

  Args:
    dataset: opens the batches that are harmed.
    harm: "nan": the loss of the batch is not a number. "spike": its loss and gradient are huge.
      "left out": the batch is not there, as if the data did not hold it. "block": it never comes.
    first: the number of the first such batch; the batch of step 1 has number 1.
    count: how many batches in a row.
    once: a file that is written when it first happens; if it exists, nothing happens any more.
  """
  opened = dataset(
    architecture=architecture,
    batch_size=batch_size,
    seed=seed,
    process_index=process_index,
    process_count=process_count,
  )
  numbers = range(first, first + count)
  wrap = functools.partial(HarmfulIterator, harm=harm, numbers=numbers, once=once)
  return WrappedDataset(opened, wrap)


class HarmfulIterator(WrappedIterator):
  """Counts the batches, and harms those with the given numbers."""

  def __init__(self, batches: BatchIterator, harm: str, numbers: range, once: str | None):
    super().__init__(batches)
    self._harm, self._numbers = harm, numbers
    self._once = Path(once) if once else None
    self._number = 0

  def __next__(self) -> Batch:
    self._number += 1
    batch = next(self._batches)
    if self._number not in self._numbers or (self._once and self._once.exists()):
      return batch
    if self._once:
      self._once.write_text(str(self._number))
    return self._harmed(batch)

  def _harmed(self, batch: Batch) -> Batch:
    if self._harm == "left out":
      for _ in self._numbers[1:]:
        next(self._batches)
      self._number += len(self._numbers)
      return next(self._batches)
    while self._harm == "block":
      time.sleep(1)
    (name,) = (name for name in batch if name.endswith("_loss_weights"))
    return batch | {name: self._weights(batch[name])}

  def _weights(self, weights: np.ndarray) -> np.ndarray:
    """Returns weights of the same shape with which the loss is not a number, or huge."""
    if self._harm == "nan":
      return np.full_like(weights, np.nan)
    flat = np.zeros(weights.size, weights.dtype)
    places = np.flatnonzero(weights)
    half = len(places) // 2
    flat[places[:half]], flat[places[half : 2 * half]] = 1, -1
    flat[places[0]] += _SPIKE
    return flat.reshape(weights.shape)

  def get_state(self) -> dict[str, bytes]:
    return self._batches.get_state() | {_NUMBER: str(self._number).encode()}

  def set_state(self, state: Mapping[str, bytes]) -> None:
    self._batches.set_state({name: place for name, place in state.items() if name != _NUMBER})
    self._number = int(state[_NUMBER])
