"""JSON lines into cached records: streamed, with what cannot be read counted and left out."""

from __future__ import annotations

import collections
import dataclasses
import gzip
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from t5x_style.data import record_cache, text_files
from t5x_style.data.record_cache import Records
from t5x_style.errors import UserError

_VERSION = 1
_BYTES_PER_SHARD = 64 * 2**20
_MOST_SHARDS = 512
# So many objects without the field, and none with it, are not the exception in this file.
_PATIENCE = 1000


def open_records(
  files: Mapping[str, Sequence[str]], field: str, held_out: float, cache_dir: str | None
) -> Records:
  """The texts of all documents.

  Args:
    files: of "train" and, where it has files of its own, "validation".
    field: name of the text.
    held_out: share of the "train" documents that becomes "validation", by a hash of their text.
    cache_dir: see record_cache.open_or_build.

  Raises:
    UserError: no object has text in `field`, or a file cannot be read.
  """
  key = hashlib.sha256(repr((_VERSION, field, held_out)).encode())
  total = 0
  for split, names in sorted(files.items()):
    for name in names:
      size, modified = _stat(name)
      total += size
      key.update(f"{split}\0{os.path.abspath(name)}\0{size}\0{modified}\n".encode())
  train = min(_MOST_SHARDS, max(16, total // _BYTES_PER_SHARD))
  shards = {"train": train, "validation": max(4, train // 16)}

  def build(writer: record_cache.Writer) -> dict[str, Any]:
    conversion = _Conversion(writer, field)
    for split, names in sorted(files.items()):
      for name in names:
        conversion.convert(name, split, held_out if split == "train" else 0.0)
    conversion.check_found(", ".join(names[0] for names in files.values()))
    conversion.report()
    return {"skipped": dict(conversion.skipped), "first_skipped": conversion.first_skipped}

  name = f"jsonl-{field[:40].replace(os.sep, '_')}-{key.hexdigest()[:16]}"
  return record_cache.open_or_build(cache_dir, name, shards, build)


@dataclasses.dataclass
class _Conversion:
  """Objects to records, and the count of what was left out for what reason."""

  writer: record_cache.Writer
  field: str
  objects: int = 0
  documents: int = 0
  skipped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
  first_skipped: str = ""
  fields: set[str] = dataclasses.field(default_factory=set)

  def convert(self, file: str, split: str, held_out: float) -> None:
    limit = held_out * 2**32
    for number, line in enumerate(_lines(file), 1):
      text = self._text(line, f"{file}:{number}")
      if text is None:
        continue
      share = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
      self.writer.add("validation" if share < limit else split, text)
      self.documents += 1

  def _text(self, line: bytes, place: str) -> bytes | None:
    if not line.strip():
      return None
    try:
      example = json.loads(line)
    except (ValueError, RecursionError):
      return self._skip("are not JSON", place)
    if not isinstance(example, dict):
      return self._skip("are no JSON objects", place)
    self.objects += 1
    if self.field not in example:
      if len(self.fields) < 50:
        self.fields.update(example)
      if self.documents == 0 and self.objects >= _PATIENCE:
        self.check_found(place)
      return self._skip(f"have no field {self.field!r}", place)
    text = example[self.field]
    if not isinstance(text, str):
      return self._skip(f"have no text in {self.field!r}", place)
    if not text.strip():
      return self._skip(f"have only space in {self.field!r}", place)
    # JSON may spell halves of characters, which UTF-8 cannot.
    return text.encode("utf-8", errors="replace")

  def _skip(self, reason: str, place: str) -> bytes | None:
    self.skipped[reason] += 1
    self.first_skipped = self.first_skipped or place
    return None

  def check_found(self, where: str) -> None:
    """UserError where there is no document to train on, naming the fields there are."""
    if self.writer.documents["train"]:
      return
    if self.documents:
      raise UserError(
        f"all {self.documents} documents in {where} are held out; give more documents, "
        "VALIDATION_FILES, or VALIDATION_FRACTION = 0."
      )
    if self.fields:
      raise UserError(
        f"JSON_FIELD = {self.field!r}: no object read from {where} has that field; they have "
        f"{', '.join(map(repr, sorted(self.fields)))}. Set JSON_FIELD to the one with the text."
      )
    reasons = "; ".join(f"{count} lines {reason}" for reason, count in self.skipped.items())
    raise UserError(
      f"no document in {where}: {reasons or 'there are no lines'}. CORPUS_FILES must match files "
      f'with one JSON object a line, e.g. {{"{self.field}": "..."}}.'
    )

  def report(self) -> None:
    if self.skipped:
      reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
      warnings.warn(
        f"{self.skipped.total()} JSON lines are left out: {reasons}. The first is "
        f"{self.first_skipped}.",
        stacklevel=2,
      )


def _lines(file: str) -> Iterator[bytes]:
  opened = tf.io.gfile.GFile(file, "rb") if text_files.is_remote(file) else open(file, "rb")
  try:
    with opened:
      yield from gzip.open(opened) if file.endswith(".gz") else opened
  except (OSError, EOFError, tf.errors.OpError) as error:
    raise UserError(
      f"{file}, matched by CORPUS_FILES or VALIDATION_FILES, cannot be read: {error}. Mend it, or "
      "leave it out of the pattern."
    ) from error


def _stat(file: str) -> tuple[int, int]:
  """Size in bytes and time of change in nanoseconds."""
  if text_files.is_remote(file):
    stat = tf.io.gfile.stat(file)
    return stat.length, stat.mtime_nsec
  local = os.stat(file)
  return local.st_size, local.st_mtime_ns
