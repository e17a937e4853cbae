"""A SeqIO source over a dataset of TensorFlow Datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import seqio

from t5x_style.data.corpora.reading import file_patterns, known_files
from t5x_style.data.tensorflow_setup import tf


class FieldSource(seqio.TfdsDataSource):
  """A SeqIO source of {"text": string} from one field of a prepared TFDS dataset.

  Attributes:
    record_files: the dataset's files as they were when the source was created.
  """

  def __init__(
    self, builder: Any, name: str, data_dir: str | None, splits: Mapping[str, str], field: str
  ):
    super().__init__(name, data_dir, splits=dict(splits), read_only=True)
    self._field = field
    infos = builder.info.splits
    paths = {os.fspath(path) for split in splits.values() for path in infos[split].filepaths}
    local = [path for path in paths if not file_patterns.is_remote(path)]
    self.record_files = known_files.KnownFiles(local, sampled=False)

  def get_dataset(self, split: str | None = None, *args: Any, **kwargs: Any) -> tf.data.Dataset:
    examples = super().get_dataset(split, *args, **kwargs)
    return examples.map(
      lambda example: {"text": example[self._field]},
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    )
