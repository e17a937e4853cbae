"""A dataset that writes each batch that a run takes to a file; gin files bind it as the dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style.setting_types import Text
from t5x_style.training.dataset import Batch, BatchIterator, Dataset, LoadDataset


def load(
  architecture: str,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  *,
  dataset: LoadDataset,
  folder: Text,
) -> Dataset:
  """Opens the dataset of a run on a token cache; a function for `TrainConfig.dataset`.

  Args:
    dataset: opens the batches that are recorded.
    folder: of the files; the target tokens of batch 12 in process 1 are in 000012-1.npy. If the run
      never rolls back, that is the batch of step 12.
  """
  opened = dataset(
    architecture=architecture,
    batch_size=batch_size,
    seed=seed,
    process_index=process_index,
    process_count=process_count,
  )
  return RecordedDataset(opened, Path(folder), process_index)


class RecordedDataset:
  """A dataset that is the one it wraps, except that its training batches are recorded."""

  def __init__(self, dataset: Dataset, folder: Path, process: int):
    self._dataset, self._folder, self._process = dataset, folder, process

  def __getattr__(self, name: str) -> Any:
    return getattr(self._dataset, name)

  def train(self) -> RecordedIterator:
    return RecordedIterator(self._dataset.train(), self._folder, self._process)


class RecordedIterator:
  """Writes each batch under its number in the data, from 1."""

  def __init__(self, batches: BatchIterator, folder: Path, process: int):
    self._batches, self._folder, self._process = batches, folder, process

  def __next__(self) -> Batch:
    batch = next(self._batches)
    number = json.loads(self._batches.get_state()["stream_00000"])["batch"]
    file = self._folder / f"{number:06d}-{self._process}.npy"
    assert not file.exists(), f"batch {number} was taken twice"
    np.save(file, batch["decoder_target_tokens"])
    return batch

  def epochs(self) -> dict[str, float]:
    return self._batches.epochs()

  def skipped(self) -> str:
    return self._batches.skipped()

  def get_state(self) -> dict[str, bytes]:
    return self._batches.get_state()

  def set_state(self, state: Mapping[str, bytes]) -> None:
    self._batches.set_state(state)
