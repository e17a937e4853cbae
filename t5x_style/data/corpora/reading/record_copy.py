"""Copies the texts of JSON lines into a cache of records; a copy that was interrupted resumes."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from typing import Any

from t5x_style.data.corpora.reading import (
  file_patterns,
  record_cache,
  record_tally,
  remote_files,
  text_reading,
)
from t5x_style.data.corpora.reading.record_cache import Records
from t5x_style.data.corpora.reading.record_files import RecordFiles, split_of
from t5x_style.data.corpora.reading.record_reader import Range, Record
from t5x_style.data.corpora.reading.text_lengths import Lengths
from t5x_style.errors import UserError

# Increase it when the same files give other text, so that no run reads an old cache.
_VERSION = 2
_BYTES_PER_SHARD = 64 * 2**20
_MOST_SHARDS = 512
# A copy of fewer bytes takes seconds, and says nothing.
_SMALL_BYTES = 2**28
# About what one core copies of plain files: 670 MB of text in a million documents took 35 s.
_BYTES_PER_SECOND = 20e6
_SAVE_SECONDS, _SHOW_SECONDS = 20.0, 30.0
_ASKED = "asked"  # a key of the facts of copies that were asked for


def open_copy(files: RecordFiles, cache_dir: str | None) -> Records:
  """Opens the copy of the texts of all documents; the first call writes it.

  Args:
    files: what is copied; all of them are JSON lines.
    cache_dir: see record_cache.open_or_build.

  Raises:
    UserError: no object has text in the fields, or a file is not JSON lines or cannot be read.
  """
  train = min(_MOST_SHARDS, max(16, files.total_bytes // _BYTES_PER_SHARD))
  shards = {"train": train, "validation": max(4, train // 16)}
  return record_cache.open_or_build(
    cache_dir, _name(files), shards, lambda writer: _Copy(files, writer).write()
  )


def of_earlier_version(files: RecordFiles, cache_dir: str | None) -> Records | None:
  """Opens a copy that was made before copies had to be asked for; None if there is none."""
  records = record_cache.open_if_complete(cache_dir, _name(files))
  return None if records is None or _ASKED in records.facts else records


def _name(files: RecordFiles) -> str:
  """Returns the name of the copy's folder, which has a key of all that its content depends on."""
  field, target, lengths = files.fields
  named: tuple[Any, ...] = (_VERSION, field, files.held_out)
  named += (target,) if target is not None else ()
  named += (tuple(lengths),) if lengths != Lengths() else ()
  key = hashlib.sha256(repr(named).encode())
  for split, names in sorted(files.files.items()):
    for name in names:
      size, modified = _status(name)
      key.update(os.fsencode(f"{split}\0{os.path.abspath(name)}\0{size}\0{modified}\n"))
  return f"jsonl-{field[:40].replace(os.sep, '_')}-{key.hexdigest()[:16]}"


def _status(file: str) -> tuple[int, int]:
  """Returns the size in bytes and the time of the last change in nanoseconds."""
  if file_patterns.is_remote(file):
    return remote_files.status(file)
  local = os.stat(file)
  return local.st_size, local.st_mtime_ns


class _Copy:
  """Writes the documents of all files, and saves from time to time how far it is."""

  def __init__(self, files: RecordFiles, writer: record_cache.RecordWriter):
    self._files, self._writer = files, writer
    self._tally = record_tally.Tally(files.fields, files.macro)
    self._read = self._before = 0  # bytes of the files that are done, now and at the start
    self._saved = self._shown = self._started = time.monotonic()

  def write(self) -> dict[str, Any]:
    """Copies the documents; returns what was counted."""
    done, position = 0, 0
    total = self._files.total_bytes
    if self._writer.state is not None:
      done, position, self._read, counts = self._writer.state
      self._before = self._read
      self._tally.restore(counts)
    if total >= _SMALL_BYTES:
      minutes = (total - self._read) / _BYTES_PER_SECOND / 60
      resumed = f"; {self._read / 2**30:.1f} GiB of them are copied already" if self._read else ""
      print(
        f"copying the texts of {total / 2**30:.1f} GiB of JSON lines to {self._writer.folder}: "
        f"about {minutes:.0f} minutes, and up to {total / 2**30:.1f} GiB of the disk (more if the "
        f"files are compressed){resumed}. If it is interrupted, the same command resumes. "
        "CORPUS_COPY = False reads the files themselves.",
        file=sys.stderr,
        flush=True,
      )
    every = [(split, file) for split, names in sorted(self._files.files.items()) for file in names]
    for index, (split, file) in enumerate(every):
      if index >= done:
        self._copy(index, split, file, position)
        position = 0
    where = ", ".join(names[0] for names in self._files.files.values())
    self._tally.check_found(where)
    if not self._writer.documents["train"]:
      raise UserError(
        f"all {self._tally.documents} documents in {where} are held out; give more documents, "
        "VALIDATION_FILES, or VALIDATION_FRACTION = 0."
      )
    return {**self._tally.facts(), _ASKED: True}

  def _copy(self, index: int, split: str, file: str, position: int) -> None:
    """Copies one file from a position on."""
    reader = self._files.readers.of(file)
    if reader.unit != "line":
      raise UserError(
        f"{file}: it holds {reader.what} and no JSON lines; include 'data/records.gin' instead of "
        "'data/jsonl.gin'."
      )
    size = file_patterns.size(file)
    held_out = self._files.held_out if split == "train" else 0.0
    if position:
      self._tally.resume(file, reader)
    else:
      self._tally.begin(file, reader)
    number = 0 if not position else reader.number(file, position) - 1
    for record in reader.records(file, Range(position, None), self._files.fields):
      number += 1
      if found := self._tally.take(record, number):
        self._add(split, held_out, found, record, number)
      self._save_and_show(index, record.after, size)
    self._tally.end()
    self._read += size

  def _add(
    self,
    split: str,
    held_out: float,
    found: record_tally.Texts,
    record: Record,
    number: int,
  ) -> None:
    chosen = "validation" if split_of(found.text, held_out) == "validation" else split
    parts = text_reading.document_parts(found.text)
    for part in parts if found.target is None else parts[:1]:
      self._writer.add(chosen, part, found.target)
    if len(parts) > 1:
      self._tally.change(record_tally.LONG, record, number)

  def _save_and_show(self, index: int, position: int, size: int) -> None:
    """Saves the state and prints a line of progress, if it is time for that."""
    now = time.monotonic()
    if now - self._saved >= _SAVE_SECONDS:
      self._saved = now
      self._writer.save((index, position, self._read, self._tally.state()))
    if now - self._shown >= _SHOW_SECONDS:
      self._shown = now
      self._show(now, min(position, size))

  def _show(self, now: float, in_file: int) -> None:
    total = self._files.total_bytes
    read = min(total, self._read + in_file)
    left = (now - self._started) * (total - read) / max(1, read - self._before)
    print(
      f"copied {read / 2**30:.1f} of {total / 2**30:.1f} GiB, "
      f"{self._tally.documents:,} documents; about {left / 60:.0f} minutes left",
      file=sys.stderr,
      flush=True,
    )
