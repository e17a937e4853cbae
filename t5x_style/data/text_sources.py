"""SeqIO sources of {"text": string} over files as they are, whose iterators can be checkpointed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

# Of a hash that decides which documents are held out; the finest share is one of so many.
_BUCKETS = 1_000_000


class WholeFiles(seqio.FileDataSource):
  """One document a file; files ending in .gz are unpacked.

  In shuffled order it draws a permutation of all files that is a function of the seed and is never
  held in memory, so the state of an iterator is small for millions of files.
  """

  def __init__(self, files: Mapping[str, Sequence[str]]):
    super().__init__(
      _read_file,
      {split: list(names) for split, names in files.items()},
      num_input_examples={split: len(names) for split, names in files.items()},
    )
    self._files = {split: tf.constant(names, tf.string) for split, names in files.items()}

  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | tf.Tensor | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused: Any,
  ) -> tf.data.Dataset:
    """The files of `split`, of the share `shard_info`; in sorted order without `shuffle`."""
    del unused
    files = self._files[split]
    last = len(self.list_shards(split)) - 1
    numbers = tf.data.Dataset.range(last + 1)
    if shard_info is not None:
      numbers = numbers.shard(shard_info.num_shards, shard_info.index)
    seed = random.getrandbits(62) if seed is None else seed
    seeds = tf.stack([tf.cast(seed, tf.int64), 0])

    def read(number):
      if shuffle:
        number = tf.random.experimental.index_shuffle(number, seeds, last)
      return _read(files[number])

    return numbers.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

  def list_shards(self, split: str) -> Sequence[str]:
    return self._split_to_filepattern[split]


def _read_file(file: tf.Tensor) -> tf.data.Dataset:
  return tf.data.Dataset.from_tensors(file).map(_read)


def _read(file: tf.Tensor) -> dict[str, tf.Tensor]:
  content = tf.io.read_file(file)
  packed = _is_packed(file)
  text = tf.cond(packed, lambda: tf.io.decode_compressed(content, "GZIP"), lambda: content)
  return {"text": text}


def _is_packed(file: tf.Tensor) -> tf.Tensor:
  return tf.strings.regex_full_match(file, r"(?s).*\.gz")


class Lines(seqio.FileDataSource):
  """One document a line, blank lines left out; files are streamed, those ending in .gz unpacked."""

  def __init__(self, files: Mapping[str, Sequence[str]], held_out: float | None = None):
    """Lists files.

    Args:
      files: of each split.
      held_out: share of all lines that "validation" consists of and "train" goes without, where
        both are read from the same files. A line's hash decides, so equal lines stay together.
    """
    self._held_out = held_out
    super().__init__(_read_lines, {split: list(names) for split, names in files.items()})

  def get_dataset(self, split: str = "train", *args: Any, **kwargs: Any) -> tf.data.Dataset:
    """The lines of `split`; see seqio.FileDataSource."""
    lines = super().get_dataset(split, *args, **kwargs)
    if self._held_out is not None:
      share = round(self._held_out * _BUCKETS)

      def belongs(line):
        held_out = tf.strings.to_hash_bucket_fast(line["text"], _BUCKETS) < share
        return held_out if split == "validation" else ~held_out

      lines = lines.filter(belongs)
    return lines

  def list_shards(self, split: str) -> Sequence[str]:
    return self._split_to_filepattern[split]


def _read_lines(file: tf.Tensor) -> tf.data.Dataset:
  compression = tf.where(_is_packed(file), "GZIP", "")
  lines = tf.data.TextLineDataset(file, compression_type=compression)
  filled = lines.filter(lambda line: tf.strings.length(tf.strings.strip(line)) > 0)
  return filled.map(lambda line: {"text": line})


class TfdsField(seqio.TfdsDataSource):
  """One field of a TensorFlow dataset that has been prepared before; nothing is downloaded."""

  def __init__(self, name: str, data_dir: str | None, splits: Mapping[str, str], field: str):
    super().__init__(name, data_dir, splits=dict(splits), read_only=True)
    self._field = field

  def get_dataset(self, split: str | None = None, *args: Any, **kwargs: Any) -> tf.data.Dataset:
    examples = super().get_dataset(split, *args, **kwargs)
    return examples.map(
      lambda example: {"text": example[self._field]},
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    )
