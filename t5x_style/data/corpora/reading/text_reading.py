"""Reads text files, compressed or not; every error names the file and what to do."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from typing import Any, cast

from t5x_style.data.corpora.reading import (
  file_formats,
  file_patterns,
  known_files,
  remote_files,
  unpacking,
)
from t5x_style.errors import UserError

# All sizes are in bytes.
# A document is in memory as a whole, several times while it is tokenised.
LARGEST_DOCUMENT = 2**30
# What is longer is read as several documents. The tokeniser and the windows take about 350 times
# the memory of a document, and a saved position contains the rest of one.
LONGEST_DOCUMENT = 2**22
CHUNK = 2**20
_SPACE = re.compile(rb"[ \t\n]")
_NEAR = 8192  # a cut looks for white space in this many bytes, then cuts between two characters
# What to do if a file cannot be read while a run trains.
WHILE_RUNNING = (
  "Correct that, and start the same command again: the run resumes from its newest checkpoint."
)
_LEAVE_OUT = "or leave it out of CORPUS_FILES and VALIDATION_FILES (or --input)"


class NotTextError(UserError):
  """A file is not text in UTF-8.

  Attributes:
    what: the file and what it is, a sentence.
    advice: what to do with such a file; FILE stands for its name.
  """

  def __init__(self, file: str, what: str, advice: str, name: str):
    """Takes what `file` is, and advice in which {} stands for `name`."""
    self.what = f"{file}: it is {what}."
    self.advice = advice.replace("{}", "FILE")
    super().__init__(f"{self.what} {advice.replace('{}', shlex.quote(name))}")


def open_text(
  file: str,
  offset: int = 0,
  known: known_files.KnownFiles | None = None,
  buffer: int = io.DEFAULT_BUFFER_SIZE,
) -> io.BufferedReader:
  """Opens `file` at `offset` and unpacks it if need be; offset 0 is after a byte order mark.

  An offset in compressed data is found by unpacking all that is before it.

  Args:
    file: a path, or a URL that fsspec can read.
    offset: in unpacked bytes.
    known: the files of a run; nothing is read but what it knows.
    buffer: bytes that are read at once.

  Raises:
    UserError: the file is not UTF-8 text, or is not as the run knows it.
    OSError, unpacking.DamagedError: it cannot be read; see `naming`.
  """
  stream = open_data(file, known, buffer)
  try:
    if offset == 0:
      head = stream.read(known_files.SAMPLE_BYTES)
      check_sample(file, head, packed=packed_as(stream))
      mark = file_formats.BYTE_ORDER_MARK
      offset = len(mark) if head.startswith(mark) else 0
    stream.seek(offset)
  except BaseException:
    stream.close()
    raise
  return stream


def open_data(
  file: str,
  known: known_files.KnownFiles | None = None,
  buffer: int = io.DEFAULT_BUFFER_SIZE,
) -> io.BufferedReader:
  """Opens `file` at its start and unpacks it if need be; see `open_text`."""
  stream = _open_bytes(file, known, buffer)
  try:
    found, promised = unpacking.recognised(stream.peek(unpacking.HEAD)), unpacking.named(file)
    if found:
      unpacked = cast(Any, unpacking.Unpacked(stream, found, file))
      return io.BufferedReader(unpacked, CHUNK // 8)
    if promised:
      what = f"holds no {promised.name} data" if stream.peek(1) else "is empty"
      raise UserError(
        f"{file}: it is named {promised.suffix} but {what}. Get it again, rename it if it is not "
        f"compressed, {_LEAVE_OUT}."
      )
    return stream
  except BaseException:
    stream.close()
    raise


def _open_bytes(file: str, known: known_files.KnownFiles | None, buffer: int) -> io.BufferedReader:
  """Opens a file as it is on the disk."""
  raw: Any
  if file_patterns.is_remote(file):
    raw = remote_files.open_file(file)
    if known:
      known.check(file)
  else:
    raw = known_files.KnownPart(file, known) if known else io.FileIO(file)
  return io.BufferedReader(raw, buffer)


def packed_as(stream: io.BufferedReader) -> unpacking.Format | None:
  """Returns the format that a stream of `open_text` unpacks; None if it is not compressed."""
  raw = stream.raw
  return raw.format if isinstance(raw, unpacking.Unpacked) else None


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
  except unpacking.DamagedError as error:
    raise UserError(
      f"{file}: {error}. Get the file again ({error.check} {shlex.quote(file)} checks it), "
      f"{_LEAVE_OUT}."
    ) from error
  except OSError as error:
    raise UserError(f"{file}: it cannot be read ({error.strerror or error}). {advice}") from error


def read_document(file: str, known: known_files.KnownFiles | None = None) -> bytes:
  """Returns the whole text of a file, at most LARGEST_DOCUMENT bytes.

  Args:
    known: the files of a run that trains.
  """
  chunks, size = [], 0
  with naming(file, *[WHILE_RUNNING] * bool(known)), open_text(file, known=known) as stream:
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
  file: str, sample: bytes, offset: int = 0, *, packed: unpacking.Format | None = None
) -> file_formats.WrongByte | None:
  """Returns the first byte of a sample that is not UTF-8, or None.

  Args:
    file: for messages.
    sample: some of its unpacked bytes, from `offset` on.
    packed: the format of the compressed file.

  Raises:
    UserError: the sample is not text, or in another encoding.
  """
  found = file_formats.find_problem(sample, start=offset == 0)
  if isinstance(found, file_formats.FileProblem):
    where = f" from about byte {offset:,} on" if offset else ""
    advice, name = found.advice, file
    if packed and "{}" in advice:
      where += f", inside {packed.name} data"
      suffix = packed.suffix
      name = file.removesuffix(suffix) if file.endswith(suffix) else f"{file}.unpacked"
      program = packed.check.split()[0]
      advice = f"{program} -dc {shlex.quote(file)} > {shlex.quote(name)}, then: {advice}"
    raise NotTextError(file, f"{found.what}{where}", f"{advice}; {_LEAVE_OUT}.", name)
  return found and found._replace(offset=offset + found.offset)


def _gibibytes() -> str:
  return f"{LARGEST_DOCUMENT / 2**30:.3g} GiB"
