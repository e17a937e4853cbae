"""What the corpora of records in files share: they are streamed, and read in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from t5x_style.data.corpora.base import Patterns
from t5x_style.data.corpora.reading import (
  file_patterns,
  record_files,
  record_formats,
  record_tally,
)
from t5x_style.data.corpora.reading.parts import Document, Part
from t5x_style.data.corpora.reading.record_texts import Fields
from t5x_style.data.corpora.reading.text_lengths import Lengths

if TYPE_CHECKING:
  import seqio


class RecordCorpus:
  """A corpus of records with a field of text; see corpora.Records for the attributes."""

  pattern: Patterns
  field: str
  target_field: str | None
  min_characters: int
  max_characters: int | None
  validation_pattern: Patterns | None
  validation_fraction: float
  _macro: ClassVar[str]  # of the gin files, that sets `field`

  def source(self) -> seqio.DataSource:
    from t5x_style.data.corpora.reading import record_sources

    files = self._files()
    counted = files.check()
    record_tally.warn(counted.facts(), counted.what)
    return record_sources.RecordSource(files, counted)

  def fingerprint(self) -> str:
    return self._files().fingerprint

  def targets(self) -> Mapping[str, Mapping[str, int]]:
    return self._files().targets()

  def parts(self) -> Sequence[Part]:
    files = self._files()
    files.check()
    return [x._replace(file=file_patterns.absolute(x.file)) for x in files.parts()]

  def read(self, part: Part) -> Iterator[Document]:
    return self._record_files({}).read(part)

  def _files(self) -> record_files.RecordFiles:
    """Finds the files."""
    in_folder = record_formats.in_folder
    return self._record_files(
      file_patterns.splits(self.pattern, self.validation_pattern, in_folder)
    )

  def _record_files(self, files: Mapping[str, Sequence[str]]) -> record_files.RecordFiles:
    file_patterns.check_fraction(self.validation_fraction)
    held_out = 0.0 if self.validation_pattern else self.validation_fraction
    lengths = Lengths(self.min_characters, self.max_characters)
    lengths.check()
    fields = Fields(self.field, self.target_field, lengths)
    return record_files.RecordFiles(files, fields, held_out, self._macro)
