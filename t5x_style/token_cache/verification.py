"""Checks the files of a token cache: quickly at each opening, or every byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent import futures
from pathlib import Path

import numpy as np

from t5x_style.errors import UserError, shortened
from t5x_style.token_cache.manifest import FileFacts, Manifest
from t5x_style.token_cache.shard import RECORD, START, Shard

_SAMPLE_BYTES = 4096  # of each of the three samples of a file
_THREADS = 16  # They mostly wait for the disk.
_AGAIN = "Copy the cache again, or make it again with `python -m launch.cache`."


def facts_of(file: Path, folder: Path) -> FileFacts:
  """Returns what a manifest says of a file below `folder`; it reads the whole file."""
  with file.open("rb") as content:
    checksum = hashlib.file_digest(content, "sha256").hexdigest()
  size = file.stat().st_size
  return FileFacts(file.relative_to(folder).as_posix(), size, checksum, _sample(file, size))


def check_samples(folder: Path, manifest: Manifest) -> None:
  """Compares the sizes of all files and samples of their content with the manifest.

  That finds files that are missing, cut, or in the place of another, in a millisecond a file.

  Raises:
    UserError: files differ; it names them.
  """
  _report(folder, manifest.every_file(), lambda facts: _quick_problem(folder, facts))


def check_content(
  folder: Path, manifest: Manifest, checked: Callable[[FileFacts], None] = lambda facts: None
) -> None:
  """Compares every byte of the cache with the manifest, and the indices with the records.

  Args:
    checked: is called after each file.

  Raises:
    UserError: files differ; it names them.
  """

  def problem(facts: FileFacts) -> str | None:
    found = _quick_problem(folder, facts)
    if found is None and facts_of(folder / facts.name, folder).sha256 != facts.sha256:
      found = f"{facts.name} has other content than was written: its SHA-256 differs"
    checked(facts)
    return found

  _report(folder, manifest.every_file(), problem)
  for shards in manifest.splits.values():
    for shard in shards:
      files = folder / shard.record_file.name, folder / shard.index_file.name
      found = Shard(*files, np.dtype("<u2"), 0, manifest.targets)
      counts = found.documents, found.joined - found.documents
      rising = (np.diff(found.index[[START, RECORD]], axis=1) > 0).all()
      complete = found.record_count() == found.index[RECORD, -1]
      if counts != (shard.documents, shard.tokens) or not (rising and complete):
        raise UserError(f"{shard.name} of {folder}: its index does not fit its records. {_AGAIN}")


def _report(
  folder: Path, files: Iterable[FileFacts], problem: Callable[[FileFacts], str | None]
) -> None:
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    found = [text for text in pool.map(problem, files) if text is not None]
  if found:
    listed = "\n".join(shortened([f"  {text}" for text in found]))
    raise UserError(f"the token cache {folder} is damaged. {_AGAIN}\n{listed}")


def _quick_problem(folder: Path, facts: FileFacts) -> str | None:
  """Says how size or samples of a file differ; None if they do not."""
  file = folder / facts.name
  try:
    size = file.stat().st_size
    if size != facts.size:
      return f"{facts.name} has {size:,} bytes, and {facts.size:,} were written"
    if _sample(file, size) != facts.sample:
      return f"{facts.name} has other content than was written, perhaps that of another file"
  except FileNotFoundError:
    return f"{facts.name} is missing"
  except OSError as error:
    return f"{facts.name} cannot be read ({error.strerror})"
  return None


def _sample(file: Path, size: int) -> str:
  """Returns a checksum of the start, the middle and the end of a file."""
  digest = hashlib.sha256()
  with file.open("rb", buffering=0) as content:
    for start in sorted({0, max(0, size - _SAMPLE_BYTES) // 2, max(0, size - _SAMPLE_BYTES)}):
      content.seek(start)
      digest.update(content.read(_SAMPLE_BYTES))
  return digest.hexdigest()[:16]
