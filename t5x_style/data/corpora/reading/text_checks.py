"""Checks text files before training, and warns once per file of what is not read as it is."""

from __future__ import annotations

import collections
import os
import threading
import warnings
from collections.abc import Sequence
from concurrent import futures

from t5x_style.data.corpora.reading import file_formats, file_patterns, known_files, text_reading
from t5x_style.errors import UserError

_CHECKED_FILES = 10_000
# Of compressed data that is unpacked completely, its own size if it is gzip; of bzip2, which takes
# longer, less.
_UNPACKED_BYTES = 2**27
_THREADS = 16  # a check mostly waits for the disk or the network
_SHOWN = 12


def check_files(files: Sequence[str], file_warnings: FileWarnings | None) -> None:
  """Checks the first bytes, some in the middle and the last ones of each file, within seconds.

  Compressed files are unpacked completely if they are not too large.

  Args:
    file_warnings: warns of markup and of bytes that are not UTF-8; None: they are none of its
      business.

  Raises:
    UserError: some files are not UTF-8 text, are damaged or cannot be read.
  """
  # Of many files only some are checked here; the others are checked when they are opened.
  seen = files[:: -(-len(files) // _CHECKED_FILES) or 1]
  budget = _Budget(_UNPACKED_BYTES)
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    found = list(pool.map(lambda file: _check_file(file, budget), seen))
  if faults := [result for result in found if isinstance(result, UserError)]:
    raise UserError("\n".join(_lines(faults)))
  for file, result in zip(seen, found, strict=True):
    if file_warnings and isinstance(result, file_formats.WrongByte):
      file_warnings.wrong_byte(file, result)
    elif file_warnings and isinstance(result, file_formats.Markup):
      file_warnings.markup(file, result)


def _lines(faults: Sequence[UserError]) -> list[str]:
  """Returns a line for each of a dozen files; what to do with several like it is said once."""
  shown = faults[:_SHOWN]
  alike = collections.Counter(getattr(fault, "advice", None) for fault in shown)
  lines, advice = [], []
  for fault in shown:
    if isinstance(fault, text_reading.NotTextError) and alike[fault.advice] > 1:
      lines.append(fault.what)
      advice.append(fault.advice)
    else:
      lines.append(str(fault))
  if len(faults) > _SHOWN:
    lines.append(f"and {len(faults) - _SHOWN:,} more files.")
  return [*lines, *dict.fromkeys(advice)]


class FileWarnings:
  """Warns of text that is not read as it is, once per file and for a dozen files at most."""

  def __init__(self) -> None:
    self._warned: dict[str, set[str]] = {"wrong": set(), "long": set(), "markup": set()}

  def check_bytes(self, file: str, offset: int, text: bytes) -> None:
    """Warns of the first byte of `text` that is not UTF-8; `text` is at `offset` of the file."""
    warned = self._warned["wrong"]
    if file in warned or len(warned) > _SHOWN:
      return
    try:
      text.decode()
    except UnicodeDecodeError as error:
      self.wrong_byte(file, file_formats.WrongByte(offset + error.start, text[error.start]))

  def wrong_byte(self, file: str, found: file_formats.WrongByte) -> None:
    """Warns of a byte that is not UTF-8."""
    self._warn(
      "wrong",
      file,
      f"byte {found.offset:,} (0x{found.value:02x}) is not UTF-8; such bytes are read as U+FFFD, "
      "and their documents are counted in the run's summary",
    )

  def long_document(self, file: str, offset: int) -> None:
    """Warns of a document that is cut into parts; `offset` is that of one of its bytes."""
    size = f"{text_reading.LONGEST_DOCUMENT / 2**20:.3g} MiB"
    self._warn(
      "long",
      file,
      f"the document that has byte {offset:,} is longer than {size} and read as several of them",
    )

  def markup(self, file: str, found: file_formats.Markup) -> None:
    """Warns of a text whose markup is read as text."""
    self._warn("markup", file, f"it is {found.what}, which the model would learn. {found.advice}")

  def _warn(self, kind: str, file: str, what: str) -> None:
    warned = self._warned[kind]
    if file in warned or len(warned) > _SHOWN:
      return
    warned.add(file)
    more = "" if len(warned) <= _SHOWN else " So it is in more files, which are not named any more."
    warnings.warn(f"{file}: {what}.{more}", stacklevel=3)


class _Budget:
  """The bytes that all threads together may still read."""

  def __init__(self, size: int):
    self._left = size
    self._lock = threading.Lock()

  def take(self, size: int) -> bool:
    with self._lock:
      enough = size <= self._left
      self._left -= size if enough else 0
    return enough


def _check_file(
  file: str, budget: _Budget
) -> UserError | file_formats.Markup | file_formats.WrongByte | None:
  """Returns the error of a file, else its markup or its first byte that is not UTF-8, else None."""
  try:
    with text_reading.naming(file), text_reading.open_text(file) as stream:
      if packed := text_reading.packed_as(stream):
        samples = [(0, stream.read(known_files.SAMPLE_BYTES))]
        local = not file_patterns.is_remote(file)
        unpack = local and budget.take(packed.cost * os.path.getsize(file))
        while unpack and stream.read(text_reading.CHUNK):
          pass
      else:
        samples = known_files.samples(file)
      wrong = [text_reading.check_sample(file, sample, offset) for offset, sample in samples]
  except UserError as error:
    return error
  markup = [file_formats.find_markup(sample) for offset, sample in samples if offset == 0]
  return next((found for found in (*markup, *wrong) if found), None)
