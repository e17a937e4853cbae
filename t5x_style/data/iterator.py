"""The iterator over the data streams of a run, whose position is saved and restored as bytes."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from t5x_style.data import corpus_mixture, python_calls, skip_counts
from t5x_style.data.tensorflow_setup import tf
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
  """A dataset of batches and a position in it.

  After an error TensorFlow's iterator has no position any more: it may have dropped what it had
  read. The position after the last batch is then the one that was saved before, and the number of
  batches since.

  Attributes:
    failed: whether there was such an error.
    counts: the newest of skip_counts, [...]; None before the first batch, and where there are none.
  """

  def __init__(self, dataset: tf.data.Dataset):
    self._iterator = iter(dataset)
    self._saved: bytes | None = None  # None: the beginning
    self._since = 0  # batches since that position
    self.failed = False
    self.counts: np.ndarray | None = None

  def __next__(self) -> Batch:
    try:
      with python_calls.plain_errors():
        batch = {k: v.numpy() for k, v in next(self._iterator).items()}
    except StopIteration:
      self.failed = True
      raise UserError(corpus_mixture.ALL_ENDED) from None
    except Exception:
      self.failed = True
      raise
    self._since += 1
    if skip_counts.KEY in batch:
      counts = batch.pop(skip_counts.KEY)
      self.counts = skip_counts.newest(counts, 0 if self.counts is None else self.counts)
    return batch

  def get_state(self, unread: int = 0) -> bytes:
    """Returns the position after the last batch, with the buffers of the shuffles.

    Args:
      unread: batches, at the end, that do not count as read.
    """
    if self.failed or unread:
      files = _unpacked(self._saved) if self._saved else {}
      return _packed(files | {_SKIP: str(self._since - unread).encode()})
    with tempfile.TemporaryDirectory() as folder:
      tf.train.Checkpoint(iterator=self._iterator).write(os.path.join(folder, "state"))
      files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    if self.counts is not None:
      files[_COUNTS] = json.dumps(self.counts.tolist()).encode()
    self._saved, self._since = _packed(files), 0
    return self._saved

  def set_state(self, state: bytes) -> None:
    files = _unpacked(state)
    skipped = int(files.pop(_SKIP, b"0"))
    counts = files.get(_COUNTS)  # Earlier versions did not save them.
    self.counts = None if counts is None else np.array(json.loads(counts), np.int64)
    if files:
      with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
          Path(folder, name).write_bytes(content)
        checkpoint = tf.train.Checkpoint(iterator=self._iterator)
        checkpoint.read(os.path.join(folder, "state")).assert_consumed()
    self._saved, self._since = _packed(files) if files else None, 0
    for _ in range(skipped):
      next(self)


# The entry of a position with the number of batches after the position of the other entries.
_SKIP = "skip"
_COUNTS = "counts"  # the entry with Stream.counts as JSON


def _packed(files: Mapping[str, bytes]) -> bytes:
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    for name, content in files.items():
      archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
  return packed.getvalue()


def _unpacked(state: bytes) -> dict[str, bytes]:
  with zipfile.ZipFile(io.BytesIO(state)) as archive:
    return {name: archive.read(name) for name in archive.namelist()}


class BatchIterator:
  """Endless batches of the rows of this process.

  Rows [g*B/G, (g+1)*B/G) of the global batch come from stream g of G. A process runs the streams
  that its rows come from; processes that share a stream all run it, and each takes its own rows.
  So the state does not depend on the number of processes. `before_saving` is called before the
  positions are taken; `epochs` returns what the method of this name does, of the counts of streams.
  """

  def __init__(
    self,
    streams: Mapping[int, Stream],
    rows_per_stream: int,
    process_index: int,
    rows: int,
    before_saving: Callable[[], None] = lambda: None,
    epochs: Callable[[Sequence[np.ndarray]], dict[str, float]] = lambda counts: {},
  ):
    self._streams = dict(streams)
    self._before_saving, self._epochs = before_saving, epochs
    first_row = min(self._streams) * rows_per_stream
    start = process_index * rows - first_row
    self._rows = slice(start, start + rows)
    self._ahead: list[int] = []  # streams that were read for a batch that another could not give

  def __iter__(self) -> BatchIterator:
    return self

  def __next__(self) -> Batch:
    parts: list[Batch] = []
    try:
      for stream in self._streams.values():
        parts.append(next(stream))
    except Exception:
      self._ahead = list(self._streams)[: len(parts)]
      raise
    if len(parts) == 1:
      return {k: v[self._rows] for k, v in parts[0].items()}
    return {k: np.concatenate([part[k] for part in parts])[self._rows] for k in parts[0]}

  def skipped(self) -> str:
    """Says what the streams of this process have skipped or repaired so far; "" if nothing."""
    return skip_counts.summary(self._counts())

  def epochs(self) -> dict[str, float]:
    """Returns {corpus: how often the streams of this process have read it}; {} for one corpus.

    Examples that shuffles hold back count as read.
    """
    counts = self._counts()
    return self._epochs(counts) if counts else {}

  def _counts(self) -> list[np.ndarray]:
    return [s.counts for s in self._streams.values() if s.counts is not None]

  def get_state(self) -> dict[str, bytes]:
    """Returns {"stream_00003": bytes}, the position of each stream of this process.

    It is that after the last batch, also after an error of reading the next one.

    Raises:
      UserError: the data has changed, so that batches since the last position may be wrong.
    """
    if not any(stream.failed for stream in self._streams.values()):
      self._before_saving()
    return {
      _name(index): stream.get_state(unread=int(index in self._ahead))
      for index, stream in self._streams.items()
    }

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
