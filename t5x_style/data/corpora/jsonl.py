"""A corpus of JSON lines: objects with a text, and with what is to be predicted for it."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar

import seqio

from t5x_style.data.corpora.base import Patterns
from t5x_style.data.corpora.reading import (
  file_patterns,
  jsonl_conversion,
  known_files,
  record_cache,
)
from t5x_style.setting_types import FractionBelowOne, Text


@dataclasses.dataclass(frozen=True)
class Jsonl:
  """Files of JSON objects, one a line; the first use converts their texts into a cache.

  Lines without text in `field` are left out, counted and reported. A file in which most lines are
  not JSON objects is refused.

  Attributes:
    pattern: as in TextFiles; gzip data is unpacked.
    field: the name of the field with a document's text.
    validation_pattern, validation_fraction: as in TextFiles; the hash is of a document's text.
    cache_dir: local folder, as in PythonStdlib; about as large as the texts.
    target_field: the name of the field with what is to be predicted for the text: a label (a text
      or a whole number) or a text; None: there is none. Lines without it are left out, too.
  """

  pattern: Patterns
  field: Text = "text"
  validation_pattern: Patterns | None = None
  validation_fraction: FractionBelowOne = 0.05
  cache_dir: Text | None = None
  target_field: Text | None = None
  name: ClassVar[str] = "jsonl"

  def source(self) -> seqio.DataSource:
    files = self._files()
    known = known_files.KnownFiles(itertools.chain(*files.values()))
    records = self._records(files)
    _warn_of_changes(records)
    source = records.source()
    source.known_files = known
    return source

  def fingerprint(self) -> str:
    return self._records(self._files()).content

  def targets(self) -> Mapping[str, Mapping[str, int]]:
    return self._records(self._files()).targets

  def _files(self) -> Mapping[str, Sequence[str]]:
    return file_patterns.splits(self.pattern, self.validation_pattern)

  def _records(self, files: Mapping[str, Sequence[str]]) -> record_cache.Records:
    file_patterns.check_fraction(self.validation_fraction)
    held_out = 0.0 if self.validation_pattern else self.validation_fraction
    fields = jsonl_conversion.Fields(self.field, self.target_field)
    return jsonl_conversion.open_records(files, fields, held_out, self.cache_dir)


def _warn_of_changes(records: record_cache.Records) -> None:
  """Warns of the lines that were left out or changed when the cache was written."""
  facts = records.facts
  if facts["left_out"]:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in facts["left_out"].items())
    places = [
      f"{file} {left_out:,} of {lines:,}, the first is line {first}"
      for file, left_out, lines, first in facts["files"]
    ]
    if facts["more_files"]:
      places.append(f"and {facts['more_files']:,} more files")
    warnings.warn(
      f"{sum(facts['left_out'].values()):,} of {facts['lines']:,} JSON lines are left out: "
      f"{reasons}. In {'; '.join(places)}.",
      stacklevel=2,
    )
  for reason, (count, first) in facts["changed"].items():
    warnings.warn(f"{count:,} JSON lines {reason}; the first is {first}.", stacklevel=2)
