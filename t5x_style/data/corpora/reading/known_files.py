"""Remembers the files of a corpus as a run found them, and notices when one of them changes.

A run resumes exactly only if its texts stay the same. A changed file is noticed when it is read,
by its size and the time of its last change; then samples of its contents decide:
  the same size and samples    it was only touched or copied, and is read
  longer, but the same before  the part that is known is read, with a warning
  everything else              the run ends with an error that names the file
"""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import NamedTuple

from t5x_style.data.corpora.reading import file_patterns, remote_files
from t5x_style.errors import UserError

SAMPLE_BYTES = 65_536  # of each of the three samples of a file
# Of more files no samples are taken, and no list is saved.
_SAMPLED_FILES, _LISTED_FILES = 10_000, 2_000
_THREADS = 16  # They mostly wait for the disk.
_PUT_BACK = (
  "Only with the same text can the run continue exactly: put the file back as it was, and start "
  "the same command again. To train on the new text, set another MODEL_DIR."
)


class _Facts(NamedTuple):
  """A file on the disk; modified in nanoseconds. Remote files have a version and no inode."""

  size: int
  modified: int
  inode: int


class KnownFiles:
  """The files of a corpus: their sizes, the times of their last changes, and checksums.

  Attributes:
    listing: {file, below the folder that all have in common: [bytes, checksum]}; {} for very many.
  """

  def __init__(self, files: Iterable[str], *, sampled: bool = True, grow: bool = True):
    """Looks at all files.

    Args:
      grow: whether the part that is known can be read of a file that has grown.
      sampled: whether to take samples of them. Without samples, checksums are "", and every other
        size is a change: for files that TensorFlow reads to their ends.
    """
    names = sorted(set(files))
    self._sampled = sampled and len(names) <= _SAMPLED_FILES
    self._grow = grow
    self._facts = {name: _first_facts(name) for name in names}
    self._known_sizes: dict[str, int] = {}  # of files that have grown
    self._checksums: dict[str, str] = {}
    if self._sampled:
      with futures.ThreadPoolExecutor(_THREADS) as pool:
        self._checksums = dict(zip(names, pool.map(self._checksum, names), strict=True))
    self._reported: set[str] = set()
    self._lock = threading.Lock()
    self.listing: dict[str, list] = {}
    if 0 < len(names) <= _LISTED_FILES:
      base = common_folder(names)
      self.listing = {n[len(base) :]: [self.size(n), self._checksums.get(n, "")] for n in names}

  def size(self, file: str) -> int:
    """Returns the bytes of a file that the run may read."""
    return self._known_sizes.get(file, self._facts[file].size)

  def check(self, file: str, status: os.stat_result | None = None) -> None:
    """Checks a file that is read; `status` is that of the open file, if it is open.

    Raises:
      UserError: it has changed, and not only at its end.
    """
    now = _facts(file) if status is None else _of_status(status)
    if now != self._facts[file] and (problem := self._change(file, now)):
      raise UserError(f"{file} has changed since the run started: {problem}. {_PUT_BACK}")

  def changed(self) -> dict[str, str]:
    """Returns {file: what has changed}; looks only at local files, if they are not very many."""
    if len(self._facts) > _SAMPLED_FILES:
      return {}
    found = {}
    for file, before in self._facts.items():
      if file_patterns.is_remote(file):
        continue
      try:
        now = _facts(file)
        problem = self._change(file, now) if now != before else None
      except OSError as error:
        problem = f"it cannot be read ({error.strerror})"
      if problem:
        found[file] = problem
    return found

  def check_all(self) -> None:
    """Raises UserError about the first file that has changed; looks only at local files."""
    for file, problem in self.changed().items():
      raise UserError(f"{file} has changed since the run started: {problem}. {_PUT_BACK}")

  def warn_of_changes(self, then: str) -> None:
    """Warns of files that have changed since the last call; `then` says what follows."""
    new = {file: x for file, x in self.changed().items() if file not in self._reported}
    self._reported |= new.keys()
    for file, problem in list(new.items())[:1]:
      others = f"; {len(new) - 1} other files have changed, too" if len(new) > 1 else ""
      warnings.warn(
        f"{file} has changed since the run started: {problem}{others}. {then}", stacklevel=2
      )

  def _change(self, file: str, now: _Facts) -> str | None:
    """Says what has changed in a file; None if the part that the run knows has not."""
    size = self.size(file)
    if now.size < size:
      return f"it has {now.size:,} bytes, and had {size:,}"
    if file_patterns.is_remote(file):
      return "it was written again"
    if not (self._sampled and self._grow) and now.size > size:
      return f"it has {now.size:,} bytes, and had {size:,}"
    if self._sampled and self._checksum(file) != self._checksums[file]:
      return "it has another text"
    with self._lock:
      self._known_sizes[file] = size
      self._facts[file] = now
      grown = now.size > size and file not in self._reported
      if grown:
        self._reported.add(file)
    if grown:
      warnings.warn(
        f"{file} has grown from {size:,} to {now.size:,} bytes since the run started, which reads "
        f"only the first {size:,}. Before it resumes, cut the file back: "
        f"truncate -s {size} {shlex.quote(file)}",
        stacklevel=2,
      )
    return None

  def _checksum(self, file: str) -> str:
    """Returns a checksum of samples of the known part; "" for remote files."""
    if file_patterns.is_remote(file):
      return ""
    content = b"".join(sample for _, sample in samples(file, self.size(file)))
    return hashlib.sha256(content).hexdigest()[:16]


class KnownPart(io.FileIO):
  """A local file, read up to the size that it had when the run started; each read checks it."""

  def __init__(self, file: str, known: KnownFiles):
    """Opens the file for reading."""
    super().__init__(file)
    self._file, self._known, self._size = file, known, known.size(file)

  def readinto(self, buffer) -> int:
    left = max(0, self._size - self.tell())
    count = super().readinto(memoryview(buffer)[:left])
    self._known.check(self._file, os.fstat(self.fileno()))
    return count

  # These call readinto.
  read, readall = io.RawIOBase.read, io.RawIOBase.readall  # type: ignore[assignment]


def samples(file: str, size: int | None = None) -> list[tuple[int, bytes]]:
  """Returns (offset, bytes) of the start, the middle and the end of a file as it is on disk.

  Args:
    size: looks only at this many first bytes; at the whole file if None.
  """
  remote = file_patterns.is_remote(file)
  with remote_files.open_file(file) if remote else open(file, "rb") as f:
    end = file_patterns.size(file) if size is None else size
    last = max(0, end - SAMPLE_BYTES)
    found = []
    for start in sorted({0, last // 2, last}):
      f.seek(start)
      found.append((start, f.read(min(SAMPLE_BYTES, end - start))))
  return found


def digest(files: Mapping[str, Sequence[str]], *settings: object) -> str:
  """Returns a fingerprint of `settings` and of the files: paths below their common folder, sizes
  and samples of their contents."""
  every = sorted({file for names in files.values() for file in names})
  base = common_folder(every)
  result = hashlib.sha256(repr(settings).encode())
  for split, names in sorted(files.items()):
    result.update(f"{split}:{len(names)}\n".encode())
    for file, size, content in _sampled(names, len(every) <= _SAMPLED_FILES):
      result.update(os.fsencode(f"{file[len(base) :]}\0{size}\n"))
      result.update(content)
  return result.hexdigest()


def _sampled(files: Sequence[str], sampled: bool) -> Iterator[tuple[str, int, bytes]]:
  """Yields (file, size, samples), which several threads read; no samples unless `sampled`."""

  def read(file: str) -> tuple[str, int, bytes]:
    content = b"".join(sample for _, sample in samples(file)) if sampled else b""
    return file, file_patterns.size(file), content

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    for start in range(0, len(files), 16 * _THREADS):  # Not all at once: samples take memory.
      yield from pool.map(read, files[start : start + 16 * _THREADS])


def common_folder(files: Sequence[str]) -> str:
  """Returns the longest folder that all files are in, with a / at its end."""
  folders = [os.path.dirname(file) + "/" for file in files]
  first, last = min(folders), max(folders)
  same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
  return first[: first.rfind("/", 0, same) + 1]


def _first_facts(file: str) -> _Facts:
  try:
    return _facts(file)
  except OSError as error:
    raise UserError(f"{file}: it cannot be read ({error.strerror}).") from error


def _facts(file: str) -> _Facts:
  if file_patterns.is_remote(file):
    size, version = remote_files.status(file)
    return _Facts(size, version, 0)
  return _of_status(os.stat(file))


def _of_status(status: os.stat_result) -> _Facts:
  return _Facts(status.st_size, status.st_mtime_ns, status.st_ino)
