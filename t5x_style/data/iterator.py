"""Batches with a position: the iterator over a run's data streams, saved and restored as bytes."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from t5x_style.data import python_calls, skip_counts
from t5x_style.errors import UserError

Batch = dict[str, np.ndarray]


def with_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """The tf.data options every stream runs with: repeatable order, few threads, savable position."""
  options = tf.data.Options()
  options.deterministic = True
  options.autotune.enabled = True
  options.threading.private_threadpool_size = min(8, max(2, os.cpu_count() or 2))
  options.threading.max_intra_op_parallelism = 1
  # Nothing here has state outside the iterator; the tokeniser's model and the shuffles inside an
  # epoch only look as if they had.
  options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
  return dataset.with_options(options)


def arrays(dataset: tf.data.Dataset) -> Iterator[Batch]:
  """The elements of a dataset; UserError where something of the data cannot be read."""
  with python_calls.plain_errors():
    yield from with_options(dataset).as_numpy_iterator()


def owned(process_index: int, process_count: int, streams: int) -> range:
  """The streams whose rows lie in this process' slice of the global batch."""
  first = process_index * streams // process_count
  last = -(-(process_index + 1) * streams // process_count)
  return range(first, last)


class Stream:
  """One endless dataset of batches and the position in it."""

  def __init__(self, dataset: tf.data.Dataset):
    self._iterator = iter(dataset)

  def __next__(self) -> Batch:
    with python_calls.plain_errors():
      return {k: v.numpy() for k, v in next(self._iterator).items()}

  def get_state(self) -> bytes:
    """The position behind the last batch, buffers of the shuffles included."""
    with tempfile.TemporaryDirectory() as folder:
      tf.train.Checkpoint(iterator=self._iterator).write(os.path.join(folder, "state"))
      packed = io.BytesIO()
      with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(Path(folder).iterdir()):
          archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()

  def set_state(self, state: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
      with zipfile.ZipFile(io.BytesIO(state)) as archive:
        archive.extractall(folder)
      checkpoint = tf.train.Checkpoint(iterator=self._iterator)
      checkpoint.read(os.path.join(folder, "state")).assert_consumed()


class BatchIterator:
  """Endless batches of this process' rows; its state does not depend on the number of processes.

  Rows [g*B/G, (g+1)*B/G) of the global batch come from stream g of G. A process runs the streams
  its rows come from; where several processes share a stream each runs it and takes its own rows.
  """

  def __init__(
    self, streams: Mapping[int, Stream], rows_per_stream: int, process_index: int, rows: int
  ):
    self._streams = dict(streams)
    first_row = min(self._streams) * rows_per_stream
    start = process_index * rows - first_row
    self._rows = slice(start, start + rows)
    self._counts: dict[int, np.ndarray] = {}

  def __iter__(self) -> BatchIterator:
    return self

  def __next__(self) -> Batch:
    parts = [self._next(index) for index in self._streams]
    if len(parts) == 1:
      return {k: v[self._rows] for k, v in parts[0].items()}
    return {k: np.concatenate([part[k] for part in parts])[self._rows] for k in parts[0]}

  def skipped(self) -> str:
    """What the streams of this process have skipped or repaired so far, "" for nothing."""
    return skip_counts.summary(self._counts.values())

  def _next(self, index: int) -> Batch:
    batch = next(self._streams[index])
    if skip_counts.KEY in batch:
      counts = batch.pop(skip_counts.KEY)
      self._counts[index] = skip_counts.newest(counts, self._counts.get(index, 0))
    return batch

  def get_state(self) -> dict[str, bytes]:
    """{"stream_00003": bytes}: the position of each stream this process runs."""
    return {_name(index): stream.get_state() for index, stream in self._streams.items()}

  def set_state(self, state: Mapping[str, bytes]) -> None:
    """Continues behind the batch after which `state` was taken; other streams are ignored."""
    missing = [_name(index) for index in self._streams if _name(index) not in state]
    if missing:
      raise UserError(
        f"the saved data position has {sorted(state)} but not {missing}; the number of data "
        "streams (DATA_STREAMS) must stay that of the run that saved it."
      )
    for index, stream in self._streams.items():
      stream.set_state(state[_name(index)])


def _name(index: int) -> str:
  return f"stream_{index:05d}"
