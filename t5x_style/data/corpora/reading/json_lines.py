"""JSON lines: objects with a text, one a line."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.data.corpora.reading import (
  file_formats,
  file_patterns,
  known_files,
  record_texts,
  text_reading,
)
from t5x_style.data.corpora.reading.parts import LineNumbers
from t5x_style.data.corpora.reading.record_reader import Range, Record
from t5x_style.data.corpora.reading.record_texts import Fields, LeftOutError, Note

# Numbers are not used; as integers they may be longer than Python converts.
_DECODER = json.JSONDecoder(parse_int=float)
_TOP_KEYS = json.JSONDecoder(
  parse_int=float, object_pairs_hook=lambda pairs: [key for key, _ in pairs]
)
_BUFFER = 2**17
# Lines are counted for messages in this many bytes at most; further on, bytes are named.
_COUNTED = 2**30
# Of all readers: each part of a corpus is read by a reader of its own.
_LINE_NUMBERS = LineNumbers()


class JsonLines:
  """Reads JSON lines; a position is the offset of a line in the unpacked file."""

  what, unit, objects = "JSON lines", "line", "JSON objects"
  grow = True

  def ranges(self, file: str, size: int) -> list[Range]:
    """Cuts a file that is not compressed into ranges of about `size` bytes."""
    with text_reading.naming(file), text_reading.open_text(file) as stream:
      packed = text_reading.packed_as(stream)
    total = file_patterns.size(file)
    starts = [0] if packed else list(range(0, total - size // 2, size)) or [0]
    return [
      Range(a, b, (total if b is None else b) - a)
      for a, b in zip(starts, [*starts[1:], None], strict=True)
    ]

  def check(self, file: str, fields: Fields, macro: str) -> None:
    """Every line has fields of its own."""

  def records(
    self,
    file: str,
    where: Range,
    fields: Fields,
    known: known_files.KnownFiles | None = None,
  ) -> Iterator[Record]:
    """Yields the lines that begin in a range, with their line feeds."""
    del fields
    start, end, _ = where
    advice = [text_reading.WHILE_RUNNING] * bool(known)
    with (
      text_reading.naming(file, *advice),
      text_reading.open_text(file, max(0, start - 1), known, _BUFFER) as stream,
    ):
      if start:  # A line that begins before it belongs to the range before.
        while (rest := stream.readline(_BUFFER)) and not rest.endswith(b"\n"):
          pass
      position = stream.tell()
      while (end is None or position < end) and (line := text_reading.read_line(stream, file)):
        yield Record(position, position := position + len(line), line)

  def example(self, line: bytes, fields: Fields, note: Note) -> Mapping[str, Any] | None:
    """Returns the object of a line; None if the line is blank."""
    # Files that were joined have byte order marks in the middle.
    line = line.removeprefix(file_formats.BYTE_ORDER_MARK)
    if not line.strip():
      return None
    try:
      decoded, wrong = line.decode(), False
    except UnicodeDecodeError:
      decoded, wrong = line.decode(errors="replace"), True
    try:
      example = _DECODER.decode(decoded)
    except RecursionError:
      raise LeftOutError("are nested too deeply", malformed=True) from None
    except ValueError:
      raise LeftOutError("are not JSON", malformed=True) from None
    if not isinstance(example, dict):
      raise LeftOutError("are not JSON objects", malformed=True)
    if wrong:
      note(record_texts.NOT_UTF8)
    for field in (fields.text, *[fields.target] * bool(fields.target)):
      # Only if the name is in quotes twice can the object have the field twice.
      if line.count(f'"{field}"'.encode()) > 1 and _TOP_KEYS.decode(decoded).count(field) > 1:
        note(f"have several fields {field!r}, of which the last is read")
    return example

  def number(self, file: str, position: int) -> int:
    """Returns the number of the line at a position, from 1."""
    return 1 + _LINE_NUMBERS.before(file, position)

  def place(self, file: str, position: int) -> str:
    """Names the line at a position, for messages."""
    if position < _COUNTED:
      with contextlib.suppress(ValueError, OSError):
        return f"{file}:{self.number(file, position)}"
    return f"{file}, byte {position:,}"

  def advice(self, file: str, line: bytes) -> str:
    """Advises how to convert a file, judging by its first invalid line."""
    quoted, line = shlex.quote(file), line.strip()
    if line.startswith(b"["):
      return f"If the file is a JSON array, write an object a line: jq -c '.[]' {quoted}"
    if line.endswith(b",") and _is_json(line[:-1]):
      return f"Take the commas away from the ends of the lines: sed 's/,\\s*$//' {quoted}"
    if line.startswith(b"{"):
      return f"If objects take several lines, write each on one: jq -c . {quoted}"
    return (
      'CORPUS_FILES must match files with one JSON object a line, e.g. {"text": "..."}; for plain '
      "text include 'data/text_files.gin'."
    )


def _is_json(line: bytes) -> bool:
  try:
    _DECODER.decode(line.decode(errors="replace"))
  except ValueError:
    return False
  return True
