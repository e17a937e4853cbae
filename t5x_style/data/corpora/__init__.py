"""What a run reads: Python's standard library, text files, JSON lines, a TensorFlow dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol

import seqio

from t5x_style.data.corpora import (
  jsonl,
  python_stdlib,
  text_files,
  text_reading,
  text_sources,
  tfds_datasets,
)
from t5x_style.errors import UserError
from t5x_style.ranges import FractionBelowOne, Text

Patterns = Text | Sequence[Text]


class Corpus(Protocol):
  """What the loader asks of a corpus; making one reads nothing.

  `source` prepares what there is to prepare and raises what is wrong. It yields {"text": string},
  one document an example, finite and in a fixed order, for the splits "train" and, where anything
  is held out, "validation". A number "document", int64, tells which examples are parts of one.
  `fingerprint` is another one when the text has changed; it does not depend on where the text lies.
  """

  @property
  def name(self) -> str: ...

  def source(self) -> seqio.DataSource: ...

  def fingerprint(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class PythonStdlib:
  """Code and documentation of the running Python's standard library: 30 MB, 1,900 files, offline.

  One document a file; files that are not in UTF-8 (tests of Python's) are left out, and 5 % are
  held out, by a hash of their path.

  Attributes:
    cache_dir: local folder for a copy of 32 MB; $T5X_STYLE_CACHE or the user's cache if None.
  """

  cache_dir: Text | None = None
  name: ClassVar[str] = "python_stdlib"

  def source(self) -> seqio.DataSource:
    return python_stdlib.open_records(self.cache_dir).source()

  def fingerprint(self) -> str:
    return python_stdlib.open_records(self.cache_dir).content

  def document_count(self, split: str) -> int:
    return python_stdlib.open_records(self.cache_dir).documents.get(split, 0)


@dataclasses.dataclass(frozen=True)
class TextFiles:
  """Text files of the user, in UTF-8 and read where they are; gzip data is unpacked.

  What else they may hold is refused with what to do. Of the text nothing is changed: only a byte
  order mark at the start of a file is left out, and what ends the lines where these are documents.
  A document of more than 4 MiB is read as several.

  Attributes:
    pattern: one or several of path, "/my/*.txt", "/my/**/*.txt", "gs://bucket/*.txt".
    documents: "file": a document is a whole file; "line": a line, and files may be of any size.
    validation_pattern: files held out; they are left out of training where both patterns match.
    validation_fraction: of the files or lines, held out by a hash of their path or text where
      there is no validation_pattern; 0 holds out nothing.
  """

  pattern: Patterns
  documents: Literal["file", "line"] = "file"
  validation_pattern: Patterns | None = None
  validation_fraction: FractionBelowOne = 0.05
  name: ClassVar[str] = "text_files"

  def source(self) -> seqio.DataSource:
    files, notices = self._files(), text_reading.Notices()
    text_reading.look(sorted({file for names in files.values() for file in names}), notices)
    if self.documents == "file":
      return text_sources.WholeFiles(files, notices)
    return text_sources.Lines(files, notices, self._held_out())

  def fingerprint(self) -> str:
    settings = (text_sources.VERSION, self.documents, self._held_out())
    return text_files.digest(self._files(), *settings)

  def _held_out(self) -> float | None:
    return None if self.validation_pattern else self.validation_fraction

  def _files(self) -> Mapping[str, Sequence[str]]:
    text_files.check_fraction(self.validation_fraction)
    if self.documents not in ("file", "line"):
      raise UserError(
        f"CORPUS_DOCUMENTS = {self.documents!r} is neither 'file' (a document is a whole file) nor "
        "'line'."
      )
    files = text_files.splits(self.pattern, self.validation_pattern)
    if self.documents == "file":
      return text_files.whole(files, self._held_out())
    if self._held_out():
      files["validation"] = files["train"]
    return files


@dataclasses.dataclass(frozen=True)
class Jsonl:
  """Files of JSON objects, one a line, converted to a cache of their texts when first read.

  Lines without text in `field` are left out, counted and reported; a file of which most lines are
  no JSON objects is refused.

  Attributes:
    pattern: as of TextFiles; gzip data is unpacked.
    field: holds the text of a document.
    validation_pattern, validation_fraction: as of TextFiles, a document's text being hashed.
    cache_dir: local folder, as of PythonStdlib; about as large as the texts.
  """

  pattern: Patterns
  field: Text = "text"
  validation_pattern: Patterns | None = None
  validation_fraction: FractionBelowOne = 0.05
  cache_dir: Text | None = None
  name: ClassVar[str] = "jsonl"

  def source(self) -> seqio.DataSource:
    records = self._records()
    jsonl.report(records)
    return records.source()

  def fingerprint(self) -> str:
    return self._records().content

  def document_count(self, split: str) -> int:
    return self._records().documents.get(split, 0)

  def _records(self) -> jsonl.Records:
    text_files.check_fraction(self.validation_fraction)
    files = text_files.splits(self.pattern, self.validation_pattern)
    held_out = 0.0 if self.validation_pattern else self.validation_fraction
    return jsonl.open_records(files, self.field, held_out, self.cache_dir)


@dataclasses.dataclass(frozen=True)
class Tfds:
  """A dataset of TensorFlow Datasets that has been prepared; nothing is downloaded here.

  Attributes:
    dataset: as TFDS names it, "c4/en:3.0.1"; the newest version that is there without one.
    data_dir: where it is; $TFDS_DATA_DIR or ~/tensorflow_datasets if None.
    field: of its examples, holding a document's text.
    train_split, validation_split: TFDS splits, also parts: "train[1%:]" and "train[:1%]" where
      nothing is held out as it is; None: no validation.
  """

  dataset: Text
  data_dir: Text | None = None
  field: Text = "text"
  train_split: Text = "train"
  validation_split: Text | None = "validation"

  @property
  def name(self) -> str:
    return "".join(c if c.isalnum() or c in ".:" else "_" for c in self.dataset)

  def source(self) -> seqio.DataSource:
    tfds_datasets.check(self.dataset, self.data_dir, self.field, self._splits())
    name = tfds_datasets.versioned(self.dataset, self.data_dir)
    return text_sources.TfdsField(name, self.data_dir, self._splits(), self.field)

  def fingerprint(self) -> str:
    return tfds_datasets.digest(self.dataset, self.data_dir, self.field, self._splits())

  def document_count(self, split: str) -> int:
    return self.source().num_input_examples(split)

  def _splits(self) -> dict[str, str]:
    validation = {"validation": self.validation_split} if self.validation_split else {}
    return {"train": self.train_split, **validation}
