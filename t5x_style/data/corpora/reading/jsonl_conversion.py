"""Converts JSON lines to cached records; counts the lines that are left out or changed."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from t5x_style.data.corpora.reading import file_formats, file_patterns, record_cache, text_reading
from t5x_style.data.corpora.reading.record_cache import Records
from t5x_style.errors import UserError

# Increase it when the same files give other text, so that no run reads an old cache.
_VERSION = 2
_BYTES_PER_SHARD = 64 * 2**20
_MOST_SHARDS = 512
# After so many lines of a file, or objects in total, conversion stops if most of them are wrong.
_PATIENCE = 1000
_SHOWN = 12
_SHOWN_CHARACTERS = 60
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")
# Numbers are not used; as integers they may be longer than Python converts.
_DECODER = json.JSONDecoder(parse_int=float)
_TOP_KEYS = json.JSONDecoder(
  parse_int=float, object_pairs_hook=lambda pairs: [key for key, _ in pairs]
)


class Fields(NamedTuple):
  """The names of the fields that are read."""

  text: str
  target: str | None = None  # what is to be predicted for a text


def open_records(
  files: Mapping[str, Sequence[str]], fields: Fields, held_out: float, cache_dir: str | None
) -> Records:
  """Opens the cache of the texts of all documents; the first call writes it.

  Args:
    files: of "train" and, if it has its own files, of "validation".
    fields: which are read.
    held_out: the share of the "train" documents that becomes "validation", by a hash of their text.
    cache_dir: see record_cache.open_or_build.

  Raises:
    UserError: no object has text in the fields, or a file is not JSON lines or cannot be read.
  """
  field, target = fields
  named = (_VERSION, field, held_out) if target is None else (_VERSION, field, held_out, target)
  key = hashlib.sha256(repr(named).encode())
  total = 0
  for split, names in sorted(files.items()):
    for name in names:
      size, modified = _stat(name)
      total += size
      key.update(os.fsencode(f"{split}\0{os.path.abspath(name)}\0{size}\0{modified}\n"))
  train = min(_MOST_SHARDS, max(16, total // _BYTES_PER_SHARD))
  shards = {"train": train, "validation": max(4, train // 16)}

  def build(writer: record_cache.RecordWriter) -> dict[str, Any]:
    conversion = _Conversion(writer, fields)
    for split, names in sorted(files.items()):
      for name in names:
        conversion.convert(name, split, held_out if split == "train" else 0.0)
    conversion.check_found(", ".join(names[0] for names in files.values()))
    return conversion.facts()

  name = f"jsonl-{field[:40].replace(os.sep, '_')}-{key.hexdigest()[:16]}"
  return record_cache.open_or_build(cache_dir, name, shards, build)


@dataclasses.dataclass
class _File:
  """Counts the lines of a file that are not blank, and those that are left out."""

  name: str
  lines: int = 0
  left_out: int = 0
  malformed: int = 0
  first: int = 0
  first_malformed: tuple[int, bytes] = (0, b"")

  def check(self) -> None:
    """Raises UserError if most lines are not JSON objects: the file has another format."""
    if 2 * self.malformed <= self.lines:
      return
    number, line = self.first_malformed
    shown = line[:_SHOWN_CHARACTERS].decode(errors="replace")
    raise UserError(
      f"{self.name}: {self.malformed:,} of the first {self.lines:,} lines are not JSON objects; "
      f"line {number:,} is {shown!r}. {_advice(self.name, line.strip())}"
    )


def _advice(file: str, line: bytes) -> str:
  """Advises how to convert a file, judging by its first invalid line."""
  quoted = shlex.quote(file)
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


@dataclasses.dataclass
class _Conversion:
  """Writes the texts of objects as records; counts what is left out or changed, by reason."""

  writer: record_cache.RecordWriter
  names: Fields
  lines: int = 0
  objects: int = 0
  documents: int = 0
  left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
  changed: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
  files: list[tuple[str, int, int, int]] = dataclasses.field(default_factory=list)
  fields: set[str] = dataclasses.field(default_factory=set)
  missing: str = ""  # a field that an object did not have

  def convert(self, file: str, split: str, held_out: float) -> None:
    """Converts a file of `split`; a share `held_out` of its documents goes to "validation"."""
    limit = held_out * 2**32
    seen = _File(file)
    for number, line in enumerate(_lines(file), 1):
      if not line.strip():
        continue
      seen.lines += 1
      try:
        text, target = self._texts(line, f"{file}:{number}")
      except _LeftOutError as reason:
        self._leave_out(seen, number, line, reason)
      else:
        share = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
        parts = text_reading.document_parts(text)
        for part in parts if target is None else parts[:1]:
          self.writer.add("validation" if share < limit else split, part, target)
        if len(parts) > 1:
          self._change("have a long text, which is read as several documents", f"{file}:{number}")
        self.documents += 1
      if seen.lines == _PATIENCE:
        seen.check()
    seen.check()
    self.lines += seen.lines
    if seen.left_out:
      self.files.append((file, seen.left_out, seen.lines, seen.first))

  def _leave_out(self, seen: _File, number: int, line: bytes, reason: _LeftOutError) -> None:
    self.left_out[str(reason)] += 1
    seen.left_out += 1
    seen.first = seen.first or number
    if reason.malformed:
      seen.malformed += 1
      seen.first_malformed = seen.first_malformed if seen.malformed > 1 else (number, line)

  def _texts(self, line: bytes, place: str) -> tuple[bytes, bytes | None]:
    """Returns text and target of a line's object; raises _LeftOutError if one is missing."""
    try:
      decoded, wrong = line.decode(), False
    except UnicodeDecodeError:
      decoded, wrong = line.decode(errors="replace"), True
    try:
      example = _DECODER.decode(decoded)
    except RecursionError:
      raise _LeftOutError("are nested too deeply", malformed=True) from None
    except ValueError:
      raise _LeftOutError("are not JSON", malformed=True) from None
    texts = [self._field(example, self.names.text, place)]
    if self.names.target is not None:
      texts.append(_as_text(self._field(example, self.names.target, place, labels=True)))
    for field in filter(None, self.names):
      # Only if the name is in quotes twice can the object have the field twice.
      if line.count(f'"{field}"'.encode()) > 1 and _TOP_KEYS.decode(decoded).count(field) > 1:
        self._change(f"have several fields {field!r}, of which the last is read", place)
    if wrong:
      self._change("have bytes that are not UTF-8, which are read as U+FFFD", place)
    text, target = (*(self._encoded(text, place) for text in texts), None)[:2]
    assert text is not None
    return text, target

  def _encoded(self, text: str, place: str) -> bytes:
    try:
      return text.encode()
    except UnicodeEncodeError:
      self._change("have halves of characters (\\ud800 to \\udfff), read as U+FFFD", place)
      return _HALF_CHARACTERS.sub("\ufffd", text).encode()

  def _field(self, example: Any, field: str, place: str, labels: bool = False) -> Any:
    """Returns a field of a decoded object; raises _LeftOutError if it has no text there.

    Args:
      labels: whether whole numbers and true and false may be there, too.
    """
    if not isinstance(example, dict):
      raise _LeftOutError("are not JSON objects", malformed=True)
    self.objects += field == self.names.text
    if field not in example:
      if len(self.fields) < 50:
        self.fields.update(example)
      if self.documents == 0 and self.objects >= _PATIENCE:
        self.check_found(place)
      self.missing = field
      raise _LeftOutError(f"have no field {field!r}")
    text = example[field]
    if labels and (isinstance(text, bool) or (isinstance(text, float) and text.is_integer())):
      return text
    if not isinstance(text, str):
      raise _LeftOutError(f"have no text {'and no label ' * labels}in {field!r}")
    if not text.strip():
      raise _LeftOutError(f"have only space in {field!r}")
    return text

  def _change(self, reason: str, place: str) -> None:
    count, first = self.changed.get(reason, (0, place))
    self.changed[reason] = (count + 1, first)

  def check_found(self, where: str) -> None:
    """Raises UserError, which names the fields, if there is no document to train on."""
    if self.writer.documents["train"]:
      return
    if self.documents:
      raise UserError(
        f"all {self.documents} documents in {where} are held out; give more documents, "
        "VALIDATION_FILES, or VALIDATION_FRACTION = 0."
      )
    if self.fields and self.missing:
      setting = "JSON_FIELD" if self.missing == self.names.text else "TARGET_FIELD"
      purpose = "with the text" if setting == "JSON_FIELD" else "with what is to be predicted"
      shown = [*map(repr, sorted(self.fields)[:_SHOWN]), *["..."] * (len(self.fields) > _SHOWN)]
      raise UserError(
        f"{setting} = {self.missing!r}: no object read from {where} has that field; they have "
        f"{', '.join(shown)}. Set {setting} to the one {purpose}."
      )
    reasons = "; ".join(f"{count} lines {reason}" for reason, count in self.left_out.items())
    raise UserError(
      f"no document in {where}: {reasons or 'there are no lines'}. CORPUS_FILES must match files "
      f'with one JSON object a line, e.g. {{"{self.names.text}": "..."}}.'
    )

  def facts(self) -> dict[str, Any]:
    """Returns the counts, as JSON values, for a warning of what was left out or changed."""
    return {
      "lines": self.lines,
      "left_out": dict(self.left_out),
      "changed": self.changed,
      "files": self.files[:_SHOWN],
      "more_files": max(0, len(self.files) - _SHOWN),
    }


def _as_text(label: str | float | bool) -> str:
  """Returns a label as text: true -> "true", 3.0 -> "3", as they are written in JSON."""
  if isinstance(label, bool):
    return "true" if label else "false"
  return label if isinstance(label, str) else str(int(label))


class _LeftOutError(Exception):
  """Why a line is left out; `malformed` if it is not a JSON object."""

  def __init__(self, reason: str, malformed: bool = False):
    super().__init__(reason)
    self.malformed = malformed


def _lines(file: str) -> Iterator[bytes]:
  """Yields the lines of a file, unpacked, with their line feeds."""
  with text_reading.naming(file), text_reading.open_text(file) as stream:
    while line := text_reading.read_line(stream, file):
      # Files that were joined have byte order marks in the middle.
      yield line.removeprefix(file_formats.BYTE_ORDER_MARK)


def _stat(file: str) -> tuple[int, int]:
  """Returns the size in bytes and the time of the last change in nanoseconds."""
  if file_patterns.is_remote(file):
    stat = tf.io.gfile.stat(file)
    return stat.length, stat.mtime_nsec
  local = os.stat(file)
  return local.st_size, local.st_mtime_ns
