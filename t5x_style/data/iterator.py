"""The iterator over the data streams of a run, whose position is saved and restored as bytes."""

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
  """Sets the options of every stream: repeatable order, few threads, savable positions."""
  options = tf.data.Options()
  options.deterministic = True
  options.autotune.enabled = True
  options.threading.private_threadpool_size = min(8, max(2, os.cpu_count() or 2))
  options.threading.max_intra_op_parallelism = 1
  # Nothing here has state outside of the iterator; TensorFlow takes the tokeniser's model and the
  # shuffles inside an epoch for such state.
  options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
  return dataset.with_options(options)


def arrays(dataset: tf.data.Dataset) -> Iterator[Batch]:
  """Yields the elements of a dataset; raises UserError if the data cannot be read."""
  with python_calls.plain_errors():
    yield from with_options(dataset).as_numpy_iterator()


def owned(process_index: int, process_count: int, streams: int) -> range:
  """Returns the streams that the rows of this process come from."""
  first = process_index * streams // process_count
  last = -(-(process_index + 1) * streams // process_count)
  return range(first, last)


class Stream:
  """An endless dataset of batches and a position in it."""

  def __init__(self, dataset: tf.data.Dataset):
    self._iterator = iter(dataset)

  def __next__(self) -> Batch:
    with python_calls.plain_errors():
      return {k: v.numpy() for k, v in next(self._iterator).items()}

  def get_state(self) -> bytes:
    """Returns the position after the last batch, with the buffers of the shuffles."""
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
  """Endless batches of the rows of this process.

  Rows [g*B/G, (g+1)*B/G) of the global batch come from stream g of G. A process runs the streams
  that its rows come from; processes that share a stream all run it, and each takes its own rows.
  So the state does not depend on the number of processes.
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
    """Says what the streams of this process have skipped or repaired so far; "" if nothing."""
    return skip_counts.summary(self._counts.values())

  def _next(self, index: int) -> Batch:
    batch = next(self._streams[index])
    if skip_counts.KEY in batch:
      counts = batch.pop(skip_counts.KEY)
      self._counts[index] = skip_counts.newest(counts, self._counts.get(index, 0))
    return batch

  def get_state(self) -> dict[str, bytes]:
    """Returns {"stream_00003": bytes}, the position of each stream of this process."""
    return {_name(index): stream.get_state() for index, stream in self._streams.items()}

  def set_state(self, state: Mapping[str, bytes]) -> None:
    """Resumes after the batch at which `state` was taken; ignores streams of other processes."""
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
