"""A corpus of JSON lines: objects with a text, and with what is to be predicted for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from t5x_style.data.corpora.base import Patterns
from t5x_style.data.corpora.reading import (
  known_files,
  record_cache,
  record_copy,
  record_files,
  record_tally,
)
from t5x_style.data.corpora.record_corpus import RecordCorpus
from t5x_style.setting_types import FractionBelowOne, NonNegativeInt, PositiveInt, Text

if TYPE_CHECKING:
  import seqio


@dataclasses.dataclass(frozen=True)
class Jsonl(RecordCorpus):
  """Files of JSON objects, one a line, also compressed; they are streamed.

  Lines without text in `field` are left out, counted and reported. A file in which most lines are
  not JSON objects is refused.

  Attributes:
    pattern, field, target_field, min_characters, max_characters: as in Records.
    validation_pattern, validation_fraction: as in TextFiles; the hash is of a document's text.
    copy: whether the first use copies all texts into a cache of records, which takes time and room
      and is read instead of the files: for bzip2 and xz, and files in a slow place. None, as in a
      config.gin of an earlier version: no, but a copy that it made of these files is read, so that
      its runs resume. Batches of a copy come in another order.
    cache_dir: local folder of copies, as in PythonStdlib; about as large as the texts.
  """

  pattern: Patterns
  field: Text = "text"
  validation_pattern: Patterns | None = None
  validation_fraction: FractionBelowOne = 0.05
  cache_dir: Text | None = None
  target_field: Text | None = None
  copy: bool | None = None
  min_characters: NonNegativeInt = 0
  max_characters: PositiveInt | None = None
  name: ClassVar[str] = "jsonl"
  _macro: ClassVar[str] = "JSON_FIELD"

  def source(self) -> seqio.DataSource:
    files = self._files()
    records = self._copied(files)
    if records is None:
      return super().source()
    known = known_files.KnownFiles(files.every())
    record_tally.warn(records.facts, "JSON lines")
    source = records.source()
    source.known_files = known
    return source

  def fingerprint(self) -> str:
    files = self._files()
    records = self._copied(files)
    return files.fingerprint if records is None else records.content

  def targets(self) -> Mapping[str, Mapping[str, int]]:
    files = self._files()
    records = self._copied(files)
    return files.targets() if records is None else records.targets

  def _copied(self, files: record_files.RecordFiles) -> record_cache.Records | None:
    if self.copy is None:
      return record_copy.of_earlier_version(files, self.cache_dir)
    return record_copy.open_copy(files, self.cache_dir) if self.copy else None
