"""One shard of a token cache: its documents by index, and its index file.

The index is an int64 array [4, N+1] for N documents, in NumPy's format, memory-mapped:
  START   where a document starts in the stream of all documents of the shard joined by EOS
  RECORD  the number of its first record in the ArrayRecord file
  PLACE   file number * 2^32 + the number of the part of a text that was read as several documents
  LINE    the line or record in that file, from 1; 0 where the file is one document
Column N holds the ends of the first two rows.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from array_record.python import array_record_module

from t5x_style.token_cache import record
from t5x_style.token_cache.record import RECORD_TOKENS

START, RECORD, PLACE, LINE = range(4)
# A range below the size of the read-ahead buffer, 16 MB, is read in the calling thread, and no more
# than the range: so no thread of ArrayRecord's pool is needed, which a forked process has not.
_READER_OPTIONS = "readahead_buffer_size:16M"
_BUFFER_BYTES = 32_768


class Shard:
  """The documents of one shard, numbered from 0. Threads may share it, and it can be pickled.

  Attributes:
    index: int64 [4, N+1], memory-mapped.
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
    self._reader = None
    self._lock = threading.Lock()

  def __reduce__(self):
    return Shard, (self._records, self._index_file, self._dtype, self._eos_id, self._targets)

  def records(self, first: int, end: int) -> list[bytes]:
    """Reads the records from `first` to before `end`.

    ArrayRecord also reads a list of numbers, but each call then visits all groups of the file.
    """
    if self._reader is None:
      with self._lock:
        if self._reader is None:
          self._reader = array_record_module.ArrayRecordReader(
            str(self._records), options=_READER_OPTIONS, file_reader_buffer_size=_BUFFER_BYTES
          )
    return self._reader.read(first, end)

  def tokens(self, document: int) -> np.ndarray:
    """Returns the tokens of a document, int32 [n]."""
    first, end = map(int, self.index[RECORD, document : document + 2])
    pieces = [self._tokens(x) for x in self.records(first, end)]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

  def target(self, document: int) -> record.Target:
    """Returns the target of a document, where the documents of the cache have one."""
    first = int(self.index[RECORD, document])
    return record.target(self.records(first, first + 1)[0], self._dtype)

  def tokens_between(self, start: int, end: int) -> np.ndarray:
    """Returns int32 [end - start], tokens of the stream of all documents joined by EOS.

    It reads only the records that they are in. 0 <= start < end <= joined.
    """
    starts, firsts = self.index[START], self.index[RECORD]
    first, last = (np.searchsorted(starts, (start, end - 1), "right") - 1).tolist()
    offsets = (start - int(starts[first]), end - 1 - int(starts[last]))
    # The EOS after a document of exactly n records belongs to the last of them.
    low, high = (
      int(firsts[document]) + min(offset // RECORD_TOKENS, int(count) - 1)
      for document, offset, count in zip(
        (first, last), offsets, (firsts[[first + 1, last + 1]] - firsts[[first, last]]), strict=True
      )
    )
    found = self.records(low, high + 1)
    ends = {int(x) - 1 for x in firsts[first + 1 : last + 2]}
    pieces = []
    for number, stored in enumerate(found, low):
      pieces.append(self._tokens(stored))
      if number in ends:
        pieces.append(np.array([self._eos_id], np.int32))
    before = (low - int(firsts[first])) * RECORD_TOKENS
    skipped = offsets[0] - before
    return np.concatenate(pieces)[skipped : skipped + end - start]

  def _tokens(self, stored: bytes) -> np.ndarray:
    return record.tokens(stored, self._dtype, self._targets)
