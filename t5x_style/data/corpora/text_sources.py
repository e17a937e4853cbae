"""SeqIO sources of {"text": string} over files as they are, whose iterators can be checkpointed."""

from __future__ import annotations

import collections
import io
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from t5x_style.data import python_calls, tf_data
from t5x_style.data.corpora import text_checks, text_reading

# Raise it when the text that is read of the same files changes, so that no run resumes with it.
VERSION = 2
# Of a hash that decides which documents are held out; the finest share is one of so many.
_BUCKETS = 1_000_000
# Lines are read some at a time, of about so many bytes: enough to hide the cost of a call, few
# enough to keep saved positions small, which contain what of them is still to come.
_BLOCK_BYTES = 65_536
# Files that are kept open because to find a place in them again takes time. SeqIO reads 16 at once,
# for every stream and every part of a mixture.
_KEPT_OPEN = 512


class WholeFiles(seqio.FileDataSource):
  """One document a file, several where it is long; gzip data is unpacked.

  Those that are of one file have the same number as "document".

  In shuffled order it draws a permutation of all files that is a function of the seed and is never
  held in memory, so the state of an iterator is small for millions of files.
  """

  def __init__(self, files: Mapping[str, Sequence[str]], file_warnings: text_checks.FileWarnings):
    """Lists files.

    Args:
      files: of each split.
      file_warnings: takes what is not read as it is.
    """
    self._files = {split: list(names) for split, names in files.items()}
    self._warnings = file_warnings
    counts = {split: len(names) for split, names in files.items()}
    super().__init__(_not_by_name, self._files, num_input_examples=counts)

  @tf_data.as_written
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
    last = len(files) - 1
    numbers = tf.data.Dataset.range(last + 1)
    if shard_info is not None:
      numbers = numbers.shard(shard_info.num_shards, shard_info.index)
    seed = random.getrandbits(62) if seed is None else seed
    seeds = tf.stack([tf.cast(seed, tf.int64), 0])

    def content(number: np.int64) -> np.ndarray:
      text = text_reading.read_document(files[number])
      self._warnings.check_bytes(files[number], 0, text)
      parts = text_reading.document_parts(text)
      if len(parts) > 1:
        self._warnings.long_document(files[number], 0)
      return np.array(parts, object)

    def read(number):
      if shuffle:
        number = tf.random.experimental.index_shuffle(number, seeds, last)
      (parts,) = python_calls.call(content, [number], [tf.string])
      parts.set_shape([None])
      return {"text": parts, "document": tf.fill(tf.shape(parts), number)}

    read_ahead = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    return numbers.map(read, **read_ahead).unbatch()

  def list_shards(self, split: str) -> Sequence[str]:
    return self._files[split]


class Lines(seqio.FileDataSource):
  """One document a line, blank lines left out; files are streamed, gzip data is unpacked.

  Lines end with a line feed, or a carriage return and a line feed; all else is kept in them.
  """

  def __init__(
    self,
    files: Mapping[str, Sequence[str]],
    file_warnings: text_checks.FileWarnings,
    held_out: float | None = None,
  ):
    """Lists files.

    Args:
      files: of each split.
      file_warnings: takes what is not read as it is.
      held_out: share of all lines that "validation" consists of and "train" goes without, where
        both are read from the same files. A line's hash decides, so equal lines stay together.
    """
    self._held_out = held_out
    self._files = {split: list(names) for split, names in files.items()}
    self._blocks = _LineBlocks(file_warnings)
    super().__init__(_not_by_name, self._files)

  @tf_data.as_written
  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | tf.Tensor | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused: Any,
  ) -> tf.data.Dataset:
    """The lines of `split`, 16 files at a time; see seqio.FileDataSource."""
    del unused
    files = self._files[split]
    numbers = tf.data.Dataset.range(len(files))
    if shard_info is not None:
      numbers = numbers.shard(shard_info.num_shards, shard_info.index)
    if shuffle:
      numbers = numbers.shuffle(len(files), seed)
    lines = numbers.interleave(
      lambda number: self._blocks.lines(files, number),
      cycle_length=self._cycle_length,
      block_length=self._block_length,
      num_parallel_calls=tf.data.AUTOTUNE,
    )
    if self._held_out is not None:
      share = round(self._held_out * _BUCKETS)

      def belongs(line):
        held_out = tf.strings.to_hash_bucket_fast(line["text"], _BUCKETS) < share
        return held_out if split == "validation" else ~held_out

      lines = lines.filter(belongs)
    return lines

  def list_shards(self, split: str) -> Sequence[str]:
    return self._files[split]


class _LineBlocks:
  """Lines of files, some at a time, each time from a place on that alone decides what is read.

  TensorFlow's own reader of lines drops carriage returns wherever they are, and takes gzip data
  that was cut short for whole.
  """

  def __init__(self, file_warnings: text_checks.FileWarnings):
    self._warnings = file_warnings
    self._lock = threading.Lock()
    self._open: collections.OrderedDict[tuple[str, int], io.BufferedReader] = (
      collections.OrderedDict()
    )

  def lines(self, files: Sequence[str], number: tf.Tensor) -> tf.data.Dataset:
    """{"text": string} of the lines of file `number`."""

    def read(number: np.int64, place: np.int64) -> tuple[np.ndarray, np.int64]:
      lines, after = self.read(files[int(number)], int(place))
      return np.array(lines, object), np.int64(after)

    def step(place, _):
      lines, after = python_calls.call(read, [number, place], [tf.string, tf.int64])
      lines.set_shape([None])
      after.set_shape([])
      return after, lines

    blocks = tf.data.Dataset.counter().scan(np.int64(0), step)
    filled = blocks.take_while(lambda lines: tf.size(lines) > 0)
    return filled.unbatch().map(lambda line: {"text": line})

  def read(self, file: str, place: int) -> tuple[list[bytes], int]:
    """Lines that are not blank from the byte `place` on, none at the end, and where they end."""
    with text_reading.naming(file):
      stream = self._at(file, place)
      lines: list[bytes] = []
      try:
        while not lines and (block := stream.read(_BLOCK_BYTES)):
          if not block.endswith(b"\n"):
            block += text_reading.rest_of_line(stream)
          if not block.endswith(b"\n") and len(block) > text_reading.LONGEST_DOCUMENT:
            self._warnings.long_document(file, stream.tell() - 1)
          self._warnings.check_bytes(file, stream.tell() - len(block), block)
          ended = block.replace(b"\r\n", b"\n").split(b"\n")
          lines = [line for line in ended if line.strip()]
        place = stream.tell()
      except BaseException:
        stream.close()
        raise
      self._put_back(file, place, stream, done=not lines)
    return lines, place

  def _at(self, file: str, place: int) -> io.BufferedReader:
    with self._lock:
      stream = self._open.pop((file, place), None)
    if stream is None:
      stream = text_reading.open_text(file, place)
    return stream

  def _put_back(self, file: str, place: int, stream: io.BufferedReader, done: bool) -> None:
    if done or text_reading.reopens_cheaply(stream):
      stream.close()
      return
    with self._lock:
      closing = [self._open.pop((file, place), None)]
      self._open[file, place] = stream
      if len(self._open) > _KEPT_OPEN:
        closing.append(self._open.popitem(last=False)[1])
    for other in filter(None, closing):
      other.close()


def _not_by_name(file: tf.Tensor) -> tf.data.Dataset:
  raise NotImplementedError("get_dataset reads files by number: names may be no UTF-8")
