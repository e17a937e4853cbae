"""A corpus of text files: each file, or each line, is a document."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from t5x_style.data.corpora.base import Patterns
from t5x_style.data.corpora.reading import (
  file_patterns,
  known_files,
  text_blocks,
  text_checks,
  text_reading,
)
from t5x_style.data.corpora.reading.parts import Document, Part
from t5x_style.data.corpora.reading.text_lengths import Lengths
from t5x_style.errors import UserError
from t5x_style.setting_types import FractionBelowOne, NonNegativeInt, PositiveInt

if TYPE_CHECKING:
  import seqio

# Increase it when the same files give other text, so that no run resumes with other text.
_VERSION = 2


@dataclasses.dataclass(frozen=True)
class TextFiles:
  """Text files of the user in UTF-8, also compressed (gzip, bzip2, xz, Zstandard); not copied.

  So they must stay as they are until the run has ended: reading/known_files.py says what happens
  if one changes.

  Files in other formats are refused with a hint how to convert them. The text is not changed: only
  a byte order mark at the start of a file and, where lines are documents, the line ends are left
  out. A document of more than 4 MiB is read as several.

  Attributes:
    pattern: one or several of path, "/my/*.txt", "/my/**/*.txt", "gs://bucket/*.txt", and folders,
      which stand for all files below them.
    documents: "file": each file is a document; "line": each line is, and files may have any size.
    validation_pattern: files to hold out; those that match both patterns are not trained on.
    validation_fraction: without validation_pattern, the share of the files or lines to hold out, by
      a hash of their path or text; 0 holds out nothing.
    min_characters, max_characters: documents with fewer or more characters are left out.
  """

  pattern: Patterns
  documents: Literal["file", "line"] = "file"
  validation_pattern: Patterns | None = None
  validation_fraction: FractionBelowOne = 0.05
  min_characters: NonNegativeInt = 0
  max_characters: PositiveInt | None = None
  name: ClassVar[str] = "text_files"

  def source(self) -> seqio.DataSource:
    from t5x_style.data.corpora.reading import text_sources

    files, warnings = self._checked_files()
    if self.documents == "file":
      return text_sources.WholeFiles(files, warnings, self._lengths())
    return text_sources.Lines(files, warnings, self._held_out(), self._lengths())

  def parts(self) -> Sequence[Part]:
    found, _ = self._checked_files()
    files = {split: [*map(file_patterns.absolute, names)] for split, names in found.items()}
    if self.documents == "file":
      return [
        Part(split, file, size=file_patterns.size(file))
        for split, names in files.items()
        for file in names
      ]
    if self._held_out():
      return list(text_blocks.parts(files["train"], None))
    return [part for split, names in files.items() for part in text_blocks.parts(names, split)]

  def read(self, part: Part) -> Iterator[Document]:
    if self.documents == "file":
      return text_blocks.read_whole(part, self._lengths())
    return text_blocks.read(part, self._held_out(), self._lengths())

  def fingerprint(self) -> str:
    settings: tuple = (_VERSION, self.documents, self._held_out())
    if self._lengths() != Lengths():
      settings += tuple(self._lengths())
    return known_files.digest(self._files(), *settings)

  def _checked_files(self) -> tuple[Mapping[str, Sequence[str]], text_checks.FileWarnings]:
    files, warnings = self._files(), text_checks.FileWarnings()
    text_checks.check_files(sorted({file for names in files.values() for file in names}), warnings)
    return files, warnings

  def _lengths(self) -> Lengths:
    lengths = Lengths(self.min_characters, self.max_characters)
    lengths.check()
    return lengths

  def _held_out(self) -> float | None:
    return None if self.validation_pattern else self.validation_fraction

  def _files(self) -> Mapping[str, Sequence[str]]:
    file_patterns.check_fraction(self.validation_fraction)
    if self.documents not in ("file", "line"):
      raise UserError(
        f"CORPUS_DOCUMENTS = {self.documents!r} is neither 'file' (a document is a whole file) nor "
        "'line'."
      )
    files = file_patterns.splits(self.pattern, self.validation_pattern)
    if self.documents == "file":
      return whole_files(files, self._held_out())
    if self._held_out():
      files["validation"] = files["train"]
    return files


def whole_files(files: Mapping[str, Sequence[str]], held_out: float | None) -> dict[str, list[str]]:
  """Leaves out empty files and moves a share of the "train" files to "validation".

  Args:
    files: {split: files}; each file is one document.
    held_out: the share to move, at least one file; None or 0 moves none. A hash of the path below
      the folder that all files have in common decides, so that the folder may be moved.

  Raises:
    UserError: a file is too large for one document, a split is empty, or there is only one file.
  """
  sizes = {file: file_patterns.size(file) for names in files.values() for file in names}
  large = [file for file, size in sizes.items() if size > text_reading.LARGEST_DOCUMENT]
  if large:
    raise UserError(
      f"{large[0]} has {sizes[large[0]] / 2**30:.1f} GiB, too much for one document. Set "
      "CORPUS_DOCUMENTS = 'line' to read a document a line, or cut it into files."
    )
  result = {split: [file for file in names if sizes[file]] for split, names in files.items()}
  for split, names in result.items():
    if not names:
      raise UserError(
        f"all files for {split} are empty, e.g. {files[split][0]}; write their text into them, or "
        "change CORPUS_FILES or VALIDATION_FILES."
      )
  if not held_out:
    return result
  train = result["train"]
  if len(train) < 2:
    raise UserError(
      f"CORPUS_FILES matches one file with text, {train[0]}, which is one document: none can be "
      "held out. Set VALIDATION_FILES to other files, or CORPUS_DOCUMENTS = 'line' to read a "
      "document a line."
    )
  validation = _held_out(train, held_out)
  return {
    "train": [file for file in train if file not in validation],
    "validation": sorted(validation),
  }


def _held_out(files: Sequence[str], share: float) -> set[str]:
  """Returns the files that are held out: about `share` of two or more, at least one and not all."""
  base = known_files.common_folder(files)
  hashes = {
    file: hashlib.sha256(os.fsencode(file[len(base) :].replace(os.sep, "/"))).digest()
    for file in files
  }
  limit = share * 2**32
  validation = {f for f in files if int.from_bytes(hashes[f][:4], "big") < limit}
  validation = validation or {min(files, key=hashes.__getitem__)}
  if len(validation) == len(files):
    validation -= {max(files, key=hashes.__getitem__)}
  return validation
