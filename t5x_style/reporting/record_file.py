"""A file that grows by whole records, also while its disk is full for some time."""

import contextlib
import os
from collections.abc import Callable

from etils import epath


class RecordFile:
  """Appends records to a file. What cannot be written now is kept and written later.

  So the file never holds a part of a record, unless the process is killed while it writes one.
  """

  def __init__(self, path: epath.PathLike, first: bytes = b""):
    """Writes nothing yet; the first record makes the file, and folders that are missing.

    Args:
      first: a record that is written before all others, with the next one.
    """
    self._path = epath.Path(path)
    self._pending = first
    self._descriptor: int | None = None
    self._size: int | None = None  # of the records in the file; None before it is opened
    # Files in buckets cannot be appended to: the file is small enough to be written as a whole.
    self._written = b"" if is_local(self._path) else self._content()

  def add(self, record: bytes) -> None:
    """Adds a record, to the file itself if that is local.

    Raises:
      OSError: it cannot be written now; the next call of `add`, `flush` or `close` tries again.
    """
    self._pending += record
    if is_local(self._path):
      self.flush()

  def flush(self) -> None:
    """Writes all records; the errors are those of `add`."""
    if not self._pending:
      return
    if is_local(self._path):
      self._append()
    else:
      self._replace(self._written + self._pending)
      self._written += self._pending
    self._pending = b""

  def close(self) -> None:
    """Writes all records and closes the file; the errors are those of `add`."""
    try:
      self.flush()
    finally:
      self._release()

  def keep(self, kept: Callable[[bytes], bytes]) -> None:
    """Replaces the records by those that `kept` returns of them; makes the file if there is none.

    A process that is killed meanwhile leaves the old file or the new one. A file that only becomes
    shorter is cut, which needs no room on its disk.
    """
    self._release()
    self._pending = kept(self._pending)
    content = self._content()
    rest = kept(content)
    self._size = None
    if rest == content:
      if is_local(self._path):
        self._path.touch()
      return
    if is_local(self._path) and content.startswith(rest):
      os.truncate(self._path, len(rest))
    else:
      self._replace(rest)
      self._written = rest

  def _content(self) -> bytes:
    return self._path.read_bytes() if self._path.exists() else b""

  def _append(self) -> None:
    """Writes the pending records after the last whole one."""
    if self._descriptor is None:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
    found = os.fstat(self._descriptor).st_size
    self._size = found if self._size is None else min(self._size, found)
    place, left = self._size, memoryview(self._pending)
    try:
      while left:
        count = os.pwrite(self._descriptor, left, place)
        place, left = place + count, left[count:]
    except OSError:
      with contextlib.suppress(OSError):  # The next attempt writes over a part that stays.
        os.ftruncate(self._descriptor, self._size)
      self._release()  # Another attempt opens the file again: its file server may have restarted.
      raise
    self._size = place

  def _replace(self, content: bytes) -> None:
    self._path.parent.mkdir(parents=True, exist_ok=True)
    part = self._path.parent / f".{self._path.name}.part"
    part.write_bytes(content)
    part.replace(self._path)

  def _release(self) -> None:
    if self._descriptor is not None:
      os.close(self._descriptor)
      self._descriptor = None


def is_local(path: epath.PathLike) -> bool:
  """Returns whether a path is one of this machine, not of a bucket."""
  return "://" not in os.fspath(path)
