"""Reading a corpus without TensorFlow: the parts of its files, and the documents of each part."""

from __future__ import annotations

import bisect
import os
import threading
from typing import NamedTuple

from t5x_style.data.corpora.reading import remote_files, text_reading

_CHUNK = 2**22  # bytes


class Part(NamedTuple):
  """A part of a corpus that can be read on its own.

  Attributes:
    split: "train" or "validation"; None if each document says in which of them it is.
    file: the file that it is a part of, or a name that only the corpus understands.
    start, end: the part begins at `start` and ends before `end`. They are offsets in bytes, or
      numbers of records, as the corpus counts; None: the end of the file.
    size: in bytes, about, of which pieces of work are made; 0 where it is not known.
  """

  split: str | None
  file: str
  start: int = 0
  end: int | None = None
  size: int = 0


class Document(NamedTuple):
  """A document as it is in a corpus, however long.

  Attributes:
    split: "train" or "validation".
    text: UTF-8, though text files may have bytes that are none.
    target: what is to be predicted for it; None if the corpus has no such thing.
    file: the file it is in.
    line: the number, from 1, of the line of the file that it begins with, or of its record; 0 where
      the file is one document.
  """

  split: str
  text: bytes
  target: bytes | None
  file: str
  line: int


class LineNumbers:
  """Counts line feeds in files, each part of a file once if it is asked from front to back.

  A local file is counted again once it has changed.
  """

  def __init__(self) -> None:
    self._known: dict[tuple, list[tuple[int, int]]] = {}
    self._lock = threading.Lock()

  def before(self, file: str, offset: int) -> int:
    """Returns the number of lines that end before byte `offset` of the unpacked file."""
    with self._lock:
      known = self._known.setdefault(_version(file), [(0, 0)])
      start, lines = known[bisect.bisect(known, (offset, 2**62)) - 1]
    if start < offset:
      with text_reading.naming(file), text_reading.open_text(file) as stream:
        stream.seek(start)
        while start < offset and (chunk := stream.read(min(_CHUNK, offset - start))):
          start += len(chunk)
          lines += chunk.count(b"\n")
      with self._lock:
        bisect.insort(known, (start, lines))
    return lines


def _version(file: str) -> tuple:
  """Returns what changes with a local file; raises OSError if it is not there."""
  if remote_files.is_remote(file):
    return (file,)
  status = os.stat(file)
  return file, status.st_size, status.st_mtime_ns
