"""Reads files of text: gzip data unpacked, every fault named with its file and what to do."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import shlex
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any, cast

import tensorflow as tf

from t5x_style.data.corpora import file_formats, text_files
from t5x_style.errors import UserError

# Before training, so many files are looked at, and gzip data is unpacked up to so many bytes of it.
_LOOKED_AT_FILES = 10_000
_UNPACKED_BYTES = 2**27
_THREADS = 16  # a look mostly waits for the disk or the network
_SHOWN = 12
_CHUNK = 2**20
# Bytes; what is longer is read as several documents. The tokeniser and the windows take some 350
# times the memory of a document, and a saved position contains the rest of one.
LONGEST_DOCUMENT = 2**22
_SPACE = re.compile(rb"[ \t\n]")
_NEAR = 8192  # bytes in which a cut finds white space, or else it is between two characters
_LEAVE_OUT = "or leave it out of CORPUS_FILES and VALIDATION_FILES"


def open_text(file: str, place: int = 0) -> io.BufferedReader:
  """The text of `file`, unpacked, from `place` on, at 0 without a byte order mark.

  Args:
    file: a path, or a URL that TensorFlow can read.
    place: in unpacked bytes.

  Raises:
    UserError: the file holds something else than text in UTF-8.
    OSError, EOFError, zlib.error, tf.errors.OpError: it cannot be read; see `named`.
  """
  raw: Any = _Remote(file) if text_files.is_remote(file) else io.FileIO(file)
  stream: io.BufferedReader = io.BufferedReader(raw)
  try:
    first = stream.peek(2)[:2]
    if first == file_formats.GZIP:
      stream = io.BufferedReader(cast(Any, _Unpacked(stream)), _CHUNK // 8)
    elif file.endswith(".gz"):
      what = "is empty" if not first else "holds no gzip data"
      raise UserError(
        f"{file}: it is named .gz but {what}. Get it again, rename it if it is text, {_LEAVE_OUT}."
      )
    if place == 0:
      head = stream.read(text_files.SAMPLE_BYTES)
      _check(file, head, packed=isinstance(stream.raw, _Unpacked))
      mark = file_formats.BYTE_ORDER_MARK
      place = len(mark) if head.startswith(mark) else 0
    stream.seek(place)
  except BaseException:
    stream.close()
    raise
  return stream


def reopens_cheaply(stream: io.BufferedReader) -> bool:
  """Whether it costs little to open the same file again at some place of it."""
  return isinstance(stream.raw, io.FileIO)


@contextlib.contextmanager
def named(file: str) -> Iterator[None]:
  """What goes wrong while `file` is read becomes a UserError that names it."""
  try:
    yield
  except EOFError as error:
    raise UserError(
      f"{file}: its gzip data ends too early, so a part of the file is missing. Get it again (gzip "
      f"-t {shlex.quote(file)} checks it), {_LEAVE_OUT}."
    ) from error
  except (gzip.BadGzipFile, zlib.error) as error:
    raise UserError(
      f"{file}: its gzip data is damaged ({error}). Get it again (gzip -t "
      f"{shlex.quote(file)} checks it), {_LEAVE_OUT}."
    ) from error
  except (OSError, tf.errors.OpError) as error:
    reason = error.strerror if isinstance(error, OSError) else error.message
    raise UserError(f"{file}: it cannot be read ({reason}). Correct that, {_LEAVE_OUT}.") from error


def document(file: str) -> bytes:
  """The whole text of a file; UserError where it is too much for one document."""
  chunks, size = [], 0
  with named(file), open_text(file) as stream:
    while chunk := stream.read(_CHUNK):
      chunks.append(chunk)
      size += len(chunk)
      if size > text_files.LARGEST_DOCUMENT:
        raise UserError(
          f"{file}: its text is larger than {_gibibytes()}, too much for one document. Set "
          "CORPUS_DOCUMENTS = 'line' to read a document a line, or cut it into files."
        )
  return b"".join(chunks)


def pieces(text: bytes) -> list[bytes]:
  """`text`, cut where it is longer than a document may be, after white space where there is any."""
  found, start = [], 0
  while len(text) - start > LONGEST_DOCUMENT:
    end = start + LONGEST_DOCUMENT
    space = _SPACE.search(text, end, end + _NEAR)
    while not space and end < len(text) and _within(text[end : end + 1]):
      end += 1
    end = space.end() if space else end
    found.append(text[start:end])
    start = end
  return [*found, text[start:]]


def rest_of_line(stream: io.BufferedReader) -> bytes:
  """What follows of a line, the line feed at its end; not much more than a document may have."""
  found = stream.readline(LONGEST_DOCUMENT)
  if found.endswith(b"\n") or len(found) < LONGEST_DOCUMENT:
    return found
  if space := _SPACE.search(stream.peek(_NEAR)[:_NEAR]):
    return found + stream.read(space.end())
  while _within(stream.peek(1)[:1]):
    found += stream.read(1)
  return found


def _within(byte: bytes) -> bool:
  """Whether a byte of UTF-8 is not the first of its character."""
  return b"\x80" <= byte < b"\xc0"


def line(stream: io.BufferedReader, file: str) -> bytes:
  """A line with its line feed, b"" after the last line; UserError where it is huge."""
  found = stream.readline(text_files.LARGEST_DOCUMENT + 1)
  if len(found) > text_files.LARGEST_DOCUMENT:
    raise UserError(
      f"{file}: the line that begins before byte {stream.tell() - len(found) + 1:,} is longer than "
      f"{_gibibytes()}, too much for one document. Cut it by line feeds."
    )
  return found


def look(files: Sequence[str], notices: Notices) -> None:
  """Looks at files before anything is trained on them: at their first bytes, some in the middle and
  the last ones, and at all of gzip data that is not too large. It takes no more than seconds.

  Raises:
    UserError: some hold something else than text in UTF-8, are damaged or cannot be read.
  """
  # Of a great many files some are looked at; the others are when they are opened.
  seen = files[:: -(-len(files) // _LOOKED_AT_FILES) or 1]
  budget = _Budget(_UNPACKED_BYTES)
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    found = list(pool.map(lambda file: _look(file, budget), seen))
  faults = [str(result) for result in found if isinstance(result, UserError)]
  if faults:
    more = f"\nand {len(faults) - _SHOWN:,} more files." if len(faults) > _SHOWN else ""
    raise UserError("\n".join(faults[:_SHOWN]) + more)
  for file, result in zip(seen, found, strict=True):
    if isinstance(result, file_formats.Wrong):
      notices.wrong_byte(file, result)


class Notices:
  """Says once for a file what of it is not read as it is, for a dozen files at most."""

  def __init__(self) -> None:
    self._told: dict[str, set[str]] = {"wrong": set(), "long": set()}

  def check(self, file: str, place: int, text: bytes) -> None:
    """Tells of the first byte that is no UTF-8; `text`, whole characters, begins at `place`."""
    told = self._told["wrong"]
    if file in told or len(told) > _SHOWN:
      return
    try:
      text.decode()
    except UnicodeDecodeError as error:
      self.wrong_byte(file, file_formats.Wrong(place + error.start, text[error.start]))

  def wrong_byte(self, file: str, found: file_formats.Wrong) -> None:
    self._tell(
      "wrong",
      file,
      f"byte {found.place:,} (0x{found.value:02x}) is no UTF-8; such bytes are read as U+FFFD, and "
      "their documents are counted in the run's summary",
    )

  def long_document(self, file: str, place: int) -> None:
    size = f"{LONGEST_DOCUMENT / 2**20:.3g} MiB"
    self._tell(
      "long",
      file,
      f"the document that has byte {place:,} is longer than {size} and read as several of them",
    )

  def _tell(self, kind: str, file: str, what: str) -> None:
    told = self._told[kind]
    if file in told or len(told) > _SHOWN:
      return
    told.add(file)
    more = "" if len(told) <= _SHOWN else " So it is in more files, which are not named any more."
    warnings.warn(f"{file}: {what}.{more}", stacklevel=3)


class _Budget:
  """Of so many bytes that threads may read."""

  def __init__(self, size: int):
    self._left = size
    self._lock = threading.Lock()

  def take(self, size: int) -> bool:
    with self._lock:
      enough = size <= self._left
      self._left -= size if enough else 0
    return enough


def _look(file: str, budget: _Budget) -> UserError | file_formats.Wrong | None:
  try:
    with named(file), open_text(file) as stream:
      if isinstance(stream.raw, _Unpacked):
        samples = [(0, stream.read(text_files.SAMPLE_BYTES))]
        unpack = not text_files.is_remote(file) and budget.take(os.path.getsize(file))
        while unpack and stream.read(_CHUNK):
          pass
      else:
        samples = text_files.samples(file)
      wrong = [_check(file, sample, place) for place, sample in samples]
  except UserError as error:
    return error
  return next((found for found in wrong if found), None)


def _check(
  file: str, sample: bytes, place: int = 0, *, packed: bool = False
) -> file_formats.Wrong | None:
  found = file_formats.judge(sample, start=place == 0)
  if isinstance(found, file_formats.Fault):
    where = f" from about byte {place:,} on" if place else ""
    advice, name = found.advice, file
    if packed and "{}" in advice:
      where += ", inside gzip data"
      name = file.removesuffix(".gz") if file.endswith(".gz") else f"{file}.unpacked"
      advice = f"gzip -dc {shlex.quote(file)} > {shlex.quote(name)}, then: {advice}"
    advice = advice.format(shlex.quote(name))
    raise UserError(f"{file}: it is {found.what}{where}. {advice}; {_LEAVE_OUT}.")
  return found and found._replace(place=place + found.place)


def _gibibytes() -> str:
  return f"{text_files.LARGEST_DOCUMENT / 2**30:.3g} GiB"


class _Unpacked(gzip.GzipFile):
  """The content of gzip data, whatever number of members it has."""

  def __init__(self, packed: io.BufferedReader):
    super().__init__(fileobj=packed, mode="rb")
    self._packed = packed

  def close(self) -> None:
    super().close()
    self._packed.close()


class _Remote(io.RawIOBase):
  """A file that TensorFlow reads, as of a bucket."""

  def __init__(self, file: str):
    self._file = tf.io.gfile.GFile(file, "rb")

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
    content = self._file.read(len(buffer))
    buffer[: len(content)] = content
    return len(content)

  def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
    self._file.seek(offset, whence)
    return self._file.tell()

  def tell(self) -> int:
    return self._file.tell()

  def close(self) -> None:
    self._file.close()
    super().close()
