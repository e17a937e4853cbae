"""A dataset whose training batches are wrapped; everything else is that of the dataset itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from t5x_style.training.dataset import BatchIterator, Dataset


class WrappedDataset:
  """A dataset that is the one it wraps, except for its training batches."""

  def __init__(self, dataset: Dataset, wrap: Callable[[BatchIterator], Any]):
    """Wraps a dataset; `wrap` makes the iterator of a run out of that of the dataset."""
    self._dataset, self._wrap = dataset, wrap

  def __getattr__(self, name: str) -> Any:
    return getattr(self._dataset, name)

  def train(self) -> Any:
    return self._wrap(self._dataset.train())


class WrappedIterator:
  """An iterator that is the one it wraps, `_batches`, but for the methods of its subclass."""

  def __init__(self, batches: BatchIterator):
    self._batches = batches

  def __getattr__(self, name: str) -> Any:
    return getattr(self._batches, name)
