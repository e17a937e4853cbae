"""A SeqIO source over files of records, which are streamed; positions in them can be saved."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import seqio

from t5x_style.data import map_options, python_calls
from t5x_style.data.corpora.reading import (
  kept_open,
  known_files,
  record_tally,
  text_reading,
  text_sources,
)
from t5x_style.data.corpora.reading.parts import Part
from t5x_style.data.corpora.reading.record_files import RecordFiles
from t5x_style.data.corpora.reading.record_reader import Range, Record
from t5x_style.data.corpora.reading.record_tally import Tally
from t5x_style.data.tensorflow_setup import tf

# Documents are read in blocks. A block has about this many bytes of text, and at most this many
# documents: enough to hide the cost of a call, and few, as a saved position holds a block's rest.
_BLOCK_BYTES, _BLOCK_DOCUMENTS = 65_536, 1024
# The files are read in about this many parts or more, if the formats allow it, so that documents
# that lie together in a file do not come together.
_PARTS = 256
_LEAST_PART, _LARGEST_PART = 2**16, 2**26  # bytes


class RecordSource(seqio.FileDataSource):
  """Documents of records: {"text": string} and, if there are targets, "target".

  16 parts of files are read at once, in an order that is shuffled. What is read after a position
  depends on it only. Opening a compressed file at a saved position unpacks all that is before it:
  for gigabytes of text that is seconds with Zstandard or gzip, and minutes with bzip2 or xz.

  Attributes:
    known_files: the files as they were when the source was created.
  """

  def __init__(self, files: RecordFiles, counted: Tally):
    """Creates a source, and takes samples of its files.

    Args:
      files: what is read.
      counted: of the first records, which have been warned of.
    """
    self._files = files
    self._parts = parts_by_split(files)
    self.known_files = known_files.KnownFiles(
      files.every(), grow=all(files.readers.of(file).grow for file in files.every())
    )
    self._blocks = _RecordBlocks(files, self.known_files, _Warnings(counted))
    super().__init__(text_sources.not_by_name, {split: [] for split in self._parts})

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
    parts = self._parts[split]
    return text_sources.ordered_numbers(len(parts), shuffle, seed, shard_info).interleave(
      lambda number: self._blocks.documents(parts, split, number),
      cycle_length=self._cycle_length,
      block_length=self._block_length,
      num_parallel_calls=tf.data.AUTOTUNE,
    )

  def list_shards(self, split: str) -> Sequence[str]:
    return [part.file for part in self._parts[split]]


def parts_by_split(files: RecordFiles) -> dict[str, list[Part]]:
  """Returns the parts that hold documents of each split."""
  size = files.total_bytes // _PARTS
  parts = files.parts(max(_LEAST_PART, min(size, _LARGEST_PART)))
  splits = ["train", "validation"] if any(part.split != "train" for part in parts) else ["train"]
  return {split: [part for part in parts if part.split in (None, split)] for split in splits}


class _RecordBlocks:
  """Reads documents in blocks; a block depends only on the position it starts at."""

  def __init__(self, files: RecordFiles, known: known_files.KnownFiles, counts: _Warnings):
    self._files, self._known, self._counts = files, known, counts
    self._kept_open = kept_open.KeptOpen()

  def documents(self, parts: Sequence[Part], split: str, number: tf.Tensor) -> tf.data.Dataset:
    """Returns a dataset of the documents of part `number` that belong to a split."""
    kinds = [tf.string] * (2 if self._files.fields.target else 1)

    def read(number: np.int64, position: np.int64) -> tuple[Any, ...]:
      documents, after = self.read(parts[int(number)], split, int(position))
      columns = zip(*documents, strict=True) if documents else [()] * 2
      arrays = [np.array(column, object) for column in columns]
      return (*arrays[: len(kinds)], np.int64(after))

    def step(position, _):
      *columns, after = python_calls.call(read, [number, position], [*kinds, tf.int64])
      for column in columns:
        column.set_shape([None])
      after.set_shape([])
      return after, dict(zip(("text", "target"), columns, strict=False))

    starts = tf.constant([part.start for part in parts], tf.int64)
    blocks = tf.data.Dataset.counter().scan(starts[number], step)
    return blocks.take_while(lambda block: tf.size(block["text"]) > 0).unbatch()

  def read(
    self, part: Part, split: str, position: int
  ) -> tuple[list[tuple[bytes, bytes | None]], int]:
    """Reads a block from a position on.

    Returns:
      texts and targets, none at the end of the part; and the position after the block.
    """
    key = (part, split)
    reading = self._kept_open.take((key, position))
    reading = reading or _Reading(self._files, part, position, self._known)
    documents: list[tuple[bytes, bytes | None]] = []
    size, start = 0, position
    try:
      for record, found in reading:
        position = record.after
        if found and self._files.split_of(part, found.text) == split:
          pieces = text_reading.document_parts(found.text)
          if len(pieces) > 1:
            cut = found.target is not None
            reading.tally.change(record_tally.CUT if cut else record_tally.LONG, record)
          documents += [
            (piece, found.target) for piece in (pieces if found.target is None else pieces[:1])
          ]
          size += len(found.text)
          if size >= _BLOCK_BYTES or len(documents) >= _BLOCK_DOCUMENTS:
            break
    except BaseException:
      reading.close()
      raise
    self._counts.add(part, start, position, reading)
    if documents:
      self._kept_open.put((key, position), reading)
    else:
      reading.close()
    return documents, position


class _Reading:
  """The records of a part from a position on, with their texts, and what was counted since."""

  def __init__(self, files: RecordFiles, part: Part, position: int, known: known_files.KnownFiles):
    reader = files.readers.of(part.file)
    self.tally = Tally(files.fields, files.macro, refuses=False)
    self.tally.begin(part.file, reader)
    self.what = reader.what
    self._records = reader.records(part.file, Range(position, part.end), files.fields, known)

  def __iter__(self) -> Iterator[tuple[Record, record_tally.Texts | None]]:
    for record in self._records:
      yield record, self.tally.take(record)

  def close(self) -> None:
    """Closes the file."""
    self._records.close()  # type: ignore[attr-defined]


class _Warnings:
  """Warns of records that are left out or changed; again when they are ten times as many."""

  def __init__(self, counted: Tally):
    self._lock = threading.Lock()
    self._furthest: dict[Part, int] = {}
    self._total = Tally(counted.fields, counted.macro, refuses=False)
    self._warned = sum(counted.left_out.values())
    self._changed = set(counted.changed)

  def add(self, part: Part, start: int, after: int, reading: _Reading) -> None:
    """Adds what was counted in a block, unless that was read before."""
    tally, messages = reading.tally, []
    with self._lock:
      again = start < self._furthest.get(part, -1)
      self._furthest[part] = max(after, self._furthest.get(part, -1))
      if not again:
        messages = self._added(reading)
    tally.records, tally.left_out, tally.changed = 0, type(tally.left_out)(), {}
    for message in messages:
      warnings.warn(message, stacklevel=2)

  def _added(self, reading: _Reading) -> list[str]:
    tally, total, messages = reading.tally, self._total, []
    total.records += tally.records
    total.left_out.update(tally.left_out)
    count = sum(total.left_out.values())
    if tally.left_out and count >= 10 * self._warned:
      self._warned = max(count, 1)
      reasons = ", ".join(f"{n:,} {reason}" for reason, n in total.left_out.items())
      messages.append(
        f"{count:,} of {total.records:,} {reading.what} that were read are left out: {reasons}. "
        f"The last one is {tally.last_left_out}."
      )
    for reason, (_, place) in tally.changed.items():
      if reason not in self._changed:
        self._changed.add(reason)
        messages.append(f"{reading.what} {reason}; the first is {place}.")
    return messages
