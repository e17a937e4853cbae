"""A corpus of records in files: Parquet, TFRecord, ArrayRecord, Arrow or JSON lines."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from t5x_style.data.corpora.base import Patterns
from t5x_style.data.corpora.record_corpus import RecordCorpus
from t5x_style.setting_types import FractionBelowOne, NonNegativeInt, PositiveInt, Text


@dataclasses.dataclass(frozen=True)
class Records(RecordCorpus):
  """Files of records with a field of text, which are streamed and not copied.

  The format of each file is recognised by its first bytes: Parquet; Arrow, as in a folder that
  `datasets.save_to_disk` of Hugging Face wrote; TFRecord or ArrayRecord, whose records are
  tf.train.Examples or JSON objects; JSON lines. TFRecord files and JSON lines may be compressed
  (gzip, bzip2, xz, Zstandard). Records without text in `field` are left out, counted and reported.
  The files must stay as they are until the run has ended.

  Attributes:
    pattern: as in TextFiles; of a folder those files are read whose names end as those of these
      formats do.
    field: the name of the field with a document's text.
    target_field: the name of the field with what is to be predicted for the text: a label (a text
      or a whole number) or a text; None: there is none. Records without it are left out, too.
    min_characters, max_characters: texts with fewer or more characters are left out.
    validation_pattern, validation_fraction: as in TextFiles; the hash is of a document's text.
  """

  pattern: Patterns
  field: Text = "text"
  target_field: Text | None = None
  min_characters: NonNegativeInt = 0
  max_characters: PositiveInt | None = None
  validation_pattern: Patterns | None = None
  validation_fraction: FractionBelowOne = 0.05
  name: ClassVar[str] = "records"
  _macro: ClassVar[str] = "TEXT_FIELD"
