"""SeqIO sources of {"text": string} over text files; positions in them can be saved."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio

from t5x_style.data import map_options, python_calls
from t5x_style.data.corpora.reading import (
  kept_open,
  known_files,
  text_blocks,
  text_checks,
  text_reading,
)
from t5x_style.data.corpora.reading.text_lengths import Lengths
from t5x_style.data.tensorflow_setup import tf

_ALL_LENGTHS = Lengths()


class WholeFiles(seqio.FileDataSource):
  """Each file is a document, or several if it is long; compressed files are unpacked.

  Documents of one file have the same number "document". The shuffled order of the files is computed
  from the seed, one file at a time, so saved positions are small even for millions of files.

  Attributes:
    known_files: the files as they were when the source was created.
  """

  def __init__(
    self,
    files: Mapping[str, Sequence[str]],
    file_warnings: text_checks.FileWarnings,
    lengths: Lengths = _ALL_LENGTHS,
  ):
    """Creates a source, and takes samples of its files.

    Args:
      files: {split: paths}.
      file_warnings: warns of text that is not read as it is.
      lengths: of the documents that are read.
    """
    self._lengths = lengths
    self.known_files = known_files.KnownFiles(itertools.chain(*files.values()))
    self._files = {split: list(names) for split, names in files.items()}
    self._warnings = file_warnings
    counts = {split: len(names) for split, names in files.items()}
    super().__init__(not_by_name, self._files, num_input_examples=counts)

  @map_options.as_written
  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | tf.Tensor | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused: Any,
  ) -> tf.data.Dataset:
    """Returns the documents of a split, or of its share `shard_info`; see seqio.DataSource."""
    del unused
    files = self._files[split]
    last = len(files) - 1
    numbers = tf.data.Dataset.range(last + 1)
    if shard_info is not None:
      numbers = numbers.shard(shard_info.num_shards, shard_info.index)
    seed = random.getrandbits(62) if seed is None else seed
    seeds = tf.stack([tf.cast(seed, tf.int64), 0])

    def content(number: np.int64) -> np.ndarray:
      text = text_reading.read_document(files[number], self.known_files)
      self._warnings.check_bytes(files[number], 0, text)
      parts = text_reading.document_parts(text) if text in self._lengths else []
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
  """Each line that is not blank is a document; files are streamed, and unpacked.

  Lines end with a line feed, or a carriage return and a line feed; everything else is kept.

  Attributes:
    known_files: the files as they were when the source was created.
  """

  def __init__(
    self,
    files: Mapping[str, Sequence[str]],
    file_warnings: text_checks.FileWarnings,
    held_out: float | None = None,
    lengths: Lengths = _ALL_LENGTHS,
  ):
    """Creates a source, and takes samples of its files.

    Args:
      files: {split: paths}.
      file_warnings: warns of text that is not read as it is.
      held_out: where both splits have the same files, the share of the lines that belongs to
        "validation" and not to "train". A hash decides, so equal lines stay together.
      lengths: of the lines that are read.
    """
    self.known_files = known_files.KnownFiles(itertools.chain(*files.values()))
    self._held_out = held_out
    self._files = {split: list(names) for split, names in files.items()}
    self._blocks = _LineBlocks(file_warnings, self.known_files, lengths)
    super().__init__(not_by_name, self._files)

  @map_options.as_written
  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | tf.Tensor | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused: Any,
  ) -> tf.data.Dataset:
    """Returns the lines of a split, read from 16 files at once; see seqio.FileDataSource."""
    del unused
    files = self._files[split]
    lines = ordered_numbers(len(files), shuffle, seed, shard_info).interleave(
      lambda number: self._blocks.lines(files, number),
      cycle_length=self._cycle_length,
      block_length=self._block_length,
      num_parallel_calls=tf.data.AUTOTUNE,
    )
    if self._held_out is not None:
      share = round(self._held_out * text_blocks.BUCKETS)

      def belongs(line):
        held_out = tf.strings.to_hash_bucket_fast(line["text"], text_blocks.BUCKETS) < share
        return held_out if split == "validation" else ~held_out

      lines = lines.filter(belongs)
    return lines

  def list_shards(self, split: str) -> Sequence[str]:
    return self._files[split]


class _LineBlocks:
  """Reads lines of files in the blocks of text_blocks.py."""

  def __init__(
    self,
    file_warnings: text_checks.FileWarnings,
    known: known_files.KnownFiles,
    lengths: Lengths,
  ):
    self._warnings, self._known, self._lengths = file_warnings, known, lengths
    self._kept_open = kept_open.KeptOpen()

  def lines(self, files: Sequence[str], number: tf.Tensor) -> tf.data.Dataset:
    """Returns a dataset of {"text": string}, the lines of file `number`."""

    def read(number: np.int64, offset: np.int64) -> tuple[np.ndarray, np.int64]:
      lines, after = self.read(files[int(number)], int(offset))
      return np.array(lines, object), np.int64(after)

    def step(offset, _):
      lines, after = python_calls.call(read, [number, offset], [tf.string, tf.int64])
      lines.set_shape([None])
      after.set_shape([])
      return after, lines

    blocks = tf.data.Dataset.counter().scan(np.int64(0), step)
    filled = blocks.take_while(lambda lines: tf.size(lines) > 0)
    return filled.unbatch().map(lambda line: {"text": line})

  def read(self, file: str, offset: int) -> tuple[list[bytes], int]:
    """Reads a block of lines from byte `offset` on.

    Returns:
      its lines that are not blank, none at the end of the file, and the offset after the block.
    """
    with text_reading.naming(file, text_reading.WHILE_RUNNING):
      stream = self._at(file, offset)
      lines: list[bytes] = []
      try:
        while not lines and (block := text_blocks.next_block(stream)):
          if not block.endswith(b"\n") and len(block) > text_reading.LONGEST_DOCUMENT:
            self._warnings.long_document(file, stream.tell() - 1)
          self._warnings.check_bytes(file, stream.tell() - len(block), block)
          lines = [x for x in text_blocks.lines_of(block) if x.strip() and x in self._lengths]
        offset = stream.tell()
      except BaseException:
        stream.close()
        raise
      self._put_back(file, offset, stream, done=not lines)
    return lines, offset

  def _at(self, file: str, offset: int) -> io.BufferedReader:
    stream = self._kept_open.take((file, offset))
    if stream is None:
      stream = text_reading.open_text(file, offset, self._known)
    return stream

  def _put_back(self, file: str, offset: int, stream: io.BufferedReader, done: bool) -> None:
    if done or text_reading.reopens_cheaply(stream):
      stream.close()
    else:
      self._kept_open.put((file, offset), stream)


def ordered_numbers(
  count: int,
  shuffle: bool,
  seed: int | tf.Tensor | None,
  shard_info: seqio.ShardInfo | None,
) -> tf.data.Dataset:
  """Returns the numbers 0, ..., count - 1 of files or parts, or a share of them, in their order."""
  numbers = tf.data.Dataset.range(count)
  if shard_info is not None:
    numbers = numbers.shard(shard_info.num_shards, shard_info.index)
  if shuffle:
    numbers = numbers.shuffle(count, seed)
  return numbers


def not_by_name(file: tf.Tensor) -> tf.data.Dataset:
  """Refuses to read a file by its name, as SeqIO's sources of files would."""
  raise NotImplementedError("get_dataset reads files by number: names may not be UTF-8")
