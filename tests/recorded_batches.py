"""A dataset that writes each batch that a run takes to a file; gin files bind it as the dataset."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from t5x_style.setting_types import Text
from t5x_style.training.dataset import Batch, BatchIterator, Dataset, LoadDataset
from tests.wrapped_batches import WrappedDataset, WrappedIterator


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
  wrap = functools.partial(RecordedIterator, folder=Path(folder), process=process_index)
  return WrappedDataset(opened, wrap)


class RecordedIterator(WrappedIterator):
  """Writes each batch under its number in the data, from 1."""

  def __init__(self, batches: BatchIterator, folder: Path, process: int):
    super().__init__(batches)
    self._folder, self._process = folder, process

  def __next__(self) -> Batch:
    batch = next(self._batches)
    number = json.loads(self._batches.get_state()["stream_00000"])["batch"]
    file = self._folder / f"{number:06d}-{self._process}.npy"
    assert not file.exists(), f"batch {number} was taken twice"
    np.save(file, batch["decoder_target_tokens"])
    return batch
