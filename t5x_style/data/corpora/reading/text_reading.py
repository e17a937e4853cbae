"""Reads text files, compressed with gzip or not; every error names the file and what to do."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import shlex
import zlib
from collections.abc import Iterator
from typing import Any, cast

import tensorflow as tf

from t5x_style.data.corpora.reading import file_formats, file_patterns, known_files
from t5x_style.errors import UserError

# All sizes are in bytes.
# A document is in memory as a whole, several times while it is tokenised.
LARGEST_DOCUMENT = 2**30
# What is longer is read as several documents. The tokeniser and the windows take about 350 times
# the memory of a document, and a saved position contains the rest of one.
LONGEST_DOCUMENT = 2**22
CHUNK = 2**20
_SPACE = re.compile(rb"[ \t\n]")
_NEAR = 8192  # a cut looks for white space in so many bytes, then cuts between two characters
# What to do if a file cannot be read while a run trains.
WHILE_RUNNING = (
  "Correct that, and start the same command again: the run resumes from its newest checkpoint."
)
_LEAVE_OUT = "or leave it out of CORPUS_FILES and VALIDATION_FILES"


def open_text(
  file: str, offset: int = 0, known: known_files.KnownFiles | None = None
) -> io.BufferedReader:
  """Opens `file` at `offset` and unpacks gzip data; offset 0 is after a byte order mark.

  Args:
    file: a path, or a URL that TensorFlow can read.
    offset: in unpacked bytes.
    known: the files of a run; nothing is read but what it knows.

  Raises:
    UserError: the file is not UTF-8 text, or is not as the run knows it.
    OSError, EOFError, zlib.error, tf.errors.OpError: it cannot be read; see `naming`.
  """
  raw: Any
  if file_patterns.is_remote(file):
    raw = _Remote(file)
    if known:
      known.check(file)
  else:
    raw = known_files.KnownPart(file, known) if known else io.FileIO(file)
  stream: io.BufferedReader = io.BufferedReader(raw)
  try:
    first = stream.peek(2)[:2]
    if first == file_formats.GZIP:
      stream = io.BufferedReader(cast(Any, _Unpacked(stream)), CHUNK // 8)
    elif file.endswith(".gz"):
      what = "is empty" if not first else "holds no gzip data"
      raise UserError(
        f"{file}: it is named .gz but {what}. Get it again, rename it if it is text, {_LEAVE_OUT}."
      )
    if offset == 0:
      head = stream.read(known_files.SAMPLE_BYTES)
      check_sample(file, head, compressed=is_compressed(stream))
      mark = file_formats.BYTE_ORDER_MARK
      offset = len(mark) if head.startswith(mark) else 0
    stream.seek(offset)
  except BaseException:
    stream.close()
    raise
  return stream


def is_compressed(stream: io.BufferedReader) -> bool:
  """Returns whether a stream of `open_text` unpacks gzip data."""
  return isinstance(stream.raw, _Unpacked)


def reopens_cheaply(stream: io.BufferedReader) -> bool:
  """Returns whether opening the same file again at another offset costs little."""
  return isinstance(stream.raw, io.FileIO)


@contextlib.contextmanager
def naming(file: str, advice: str = f"Correct that, {_LEAVE_OUT}.") -> Iterator[None]:
  """Turns errors of reading `file` into a UserError that names it.

  Args:
    advice: what to do if it cannot be read.
  """
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
    raise UserError(f"{file}: it cannot be read ({reason}). {advice}") from error


def read_document(file: str, known: known_files.KnownFiles) -> bytes:
  """Returns the whole text of a file that a run knows, at most LARGEST_DOCUMENT bytes."""
  chunks, size = [], 0
  with naming(file, WHILE_RUNNING), open_text(file, known=known) as stream:
    while chunk := stream.read(CHUNK):
      chunks.append(chunk)
      size += len(chunk)
      if size > LARGEST_DOCUMENT:
        raise UserError(
          f"{file}: its text is larger than {_gibibytes()}, too much for one document. Set "
          "CORPUS_DOCUMENTS = 'line' to read a document a line, or cut it into files."
        )
  return b"".join(chunks)


def document_parts(text: bytes) -> list[bytes]:
  """Cuts `text` into parts of about LONGEST_DOCUMENT bytes, after white space if possible."""
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
  """Reads to the end of the line, its line feed included, or about LONGEST_DOCUMENT bytes of it."""
  found = stream.readline(LONGEST_DOCUMENT)
  if found.endswith(b"\n") or len(found) < LONGEST_DOCUMENT:
    return found
  if space := _SPACE.search(stream.peek(_NEAR)[:_NEAR]):
    return found + stream.read(space.end())
  while _within(stream.peek(1)[:1]):
    found += stream.read(1)
  return found


def _within(byte: bytes) -> bool:
  """Returns whether a UTF-8 byte is not the first byte of its character."""
  return b"\x80" <= byte < b"\xc0"


def read_line(stream: io.BufferedReader, file: str) -> bytes:
  """Reads a line with its line feed; b"" after the last line.

  Raises:
    UserError: the line is longer than LARGEST_DOCUMENT.
  """
  found = stream.readline(LARGEST_DOCUMENT + 1)
  if len(found) > LARGEST_DOCUMENT:
    raise UserError(
      f"{file}: the line that begins before byte {stream.tell() - len(found) + 1:,} is longer than "
      f"{_gibibytes()}, too much for one document. Cut it by line feeds."
    )
  return found


def check_sample(
  file: str, sample: bytes, offset: int = 0, *, compressed: bool = False
) -> file_formats.WrongByte | None:
  """Returns the first byte of a sample that is not UTF-8, or None.

  Args:
    file: for messages.
    sample: some of its unpacked bytes, from `offset` on.
    compressed: whether the file is gzip data.

  Raises:
    UserError: the sample is not text, or in another encoding.
  """
  found = file_formats.find_problem(sample, start=offset == 0)
  if isinstance(found, file_formats.FileProblem):
    where = f" from about byte {offset:,} on" if offset else ""
    advice, name = found.advice, file
    if compressed and "{}" in advice:
      where += ", inside gzip data"
      name = file.removesuffix(".gz") if file.endswith(".gz") else f"{file}.unpacked"
      advice = f"gzip -dc {shlex.quote(file)} > {shlex.quote(name)}, then: {advice}"
    advice = advice.format(shlex.quote(name))
    raise UserError(f"{file}: it is {found.what}{where}. {advice}; {_LEAVE_OUT}.")
  return found and found._replace(offset=offset + found.offset)


def _gibibytes() -> str:
  return f"{LARGEST_DOCUMENT / 2**30:.3g} GiB"


class _Unpacked(gzip.GzipFile):
  """The unpacked content of gzip data, of all its members."""

  def __init__(self, compressed: io.BufferedReader):
    super().__init__(fileobj=compressed, mode="rb")
    self._compressed = compressed

  def close(self) -> None:
    super().close()
    self._compressed.close()


class _Remote(io.RawIOBase):
  """A file that TensorFlow reads, e.g. of a cloud bucket."""

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
