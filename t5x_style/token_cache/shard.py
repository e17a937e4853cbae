"""One shard of a token cache: its documents by index, and its index file.

The index is an int64 array [5, N+1] for N documents, in NumPy's format, memory-mapped:
  START   where a document starts in the stream of all documents of the shard joined by EOS
  RECORD  the number of its first record in the ArrayRecord file
  PLACE   file number * 2^32 + the number of the part of a text that was read as several documents
  LINE    the line or record in that file, from 1; 0 where the file is one document
  TARGET  the tokens of the targets of the documents before; 0 where there are none
Column N holds the ends of the first two rows and of the last.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from array_record.python import array_record_module

from t5x_style.token_cache import record
from t5x_style.token_cache.record import RECORD_TOKENS

START, RECORD, PLACE, LINE, TARGET = range(5)
ROWS = 5
# A range below the size of the read-ahead buffer, 16 MB, is read in the calling thread, and no more
# than the range: so no thread of ArrayRecord's pool is needed, which a forked process has not.
_READER_OPTIONS = "readahead_buffer_size:16M"
_BUFFER_BYTES = 32_768


class Shard:
  """The documents of one shard, numbered from 0. Threads may share it, and it can be pickled.

  Attributes:
    index: int64 [5, N+1], memory-mapped.
    documents: N.
    joined: tokens of the stream of all documents, each with an EOS after it.
  """

  def __init__(self, records: Path, index: Path, dtype: np.dtype, eos_id: int, targets: bool):
    """Opens the index; the records are opened when they are first read."""
    self._records, self._index_file, self._dtype = records, index, dtype
    self._eos_id, self._targets = eos_id, targets
    self.index: np.ndarray = np.load(index, mmap_mode="r").view(np.ndarray)
    self.documents = self.index.shape[1] - 1
    self.joined = int(self.index[START, -1])
    self._reader: array_record_module.ArrayRecordReader | None = None

  def __reduce__(self):
    return Shard, (self._records, self._index_file, self._dtype, self._eos_id, self._targets)

  def records(self, first: int, end: int) -> list[bytes]:
    """Reads the records from `first` to before `end`.

    ArrayRecord also reads a list of numbers, but each call then visits all groups of the file.
    """
    return self._opened().read(first, end)

  def record_count(self) -> int:
    """Returns the number of records of the file."""
    return self._opened().num_records()

  def tokens(self, document: int) -> np.ndarray:
    """Returns the tokens of a document, int32 [n]."""
    first, end = map(int, self.index[RECORD, document : document + 2])
    pieces = [self._tokens(x) for x in self.records(first, end)]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

  def target(self, document: int) -> record.Target:
    """Returns the target of a document, where the documents of the cache have one."""
    first = int(self.index[RECORD, document])
    return record.target(self.records(first, first + 1)[0], self._dtype)

  def tokens_between(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens of the stream of all documents joined by EOS, and the document of each.

    It reads only the records that they are in. 0 <= start < end <= joined.

    Returns:
      int32 [end - start], int64 [end - start]
    """
    starts, firsts = self.index[START], self.index[RECORD]
    first, last = (np.searchsorted(starts, (start, end - 1), "right") - 1).tolist()
    bounds, records = starts[first : last + 2], firsts[first : last + 2]
    low = _record_at(start, 0, bounds, records)
    high = _record_at(end - 1, -2, bounds, records)
    ends = set((records[1:] - 1).tolist())
    pieces = []
    for number, stored in enumerate(self.records(low, high + 1), low):
      pieces.append(self._tokens(stored))
      if number in ends:
        pieces.append(np.array([self._eos_id], np.int32))
    before = int(bounds[0]) + (low - int(records[0])) * RECORD_TOKENS
    tokens = np.concatenate(pieces)[start - before : end - before]
    counts = np.diff(np.clip(bounds, start, end))
    return tokens, np.repeat(np.arange(first, last + 1), counts)

  def _opened(self) -> array_record_module.ArrayRecordReader:
    # Without a lock, which a process may be forked with: at worst two threads open the file.
    reader = self._reader
    if reader is None:
      reader = self._reader = array_record_module.ArrayRecordReader(
        str(self._records), options=_READER_OPTIONS, file_reader_buffer_size=_BUFFER_BYTES
      )
    return reader

  def _tokens(self, stored: bytes) -> np.ndarray:
    return record.tokens(stored, self._dtype, self._targets)


def _record_at(position: int, of: int, bounds: np.ndarray, records: np.ndarray) -> int:
  """Returns the record with a position of the stream.

  Args:
    of: its document: 0 the first, -2 the last of `bounds`.
    bounds, records: starts of documents and their first records, with those of the next one.
  """
  count = int(records[of + 1] - records[of])
  # The EOS after a document whose records are full belongs to the last of them.
  return int(records[of]) + min((position - int(bounds[of])) // RECORD_TOKENS, count - 1)
