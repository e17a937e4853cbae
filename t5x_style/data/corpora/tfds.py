"""A corpus from TensorFlow Datasets (TFDS): a dataset that has been prepared on disk before."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from t5x_style.data.corpora.reading import file_patterns, record_formats, record_tally
from t5x_style.data.corpora.reading.parts import Document, Part
from t5x_style.data.corpora.reading.record_reader import Range
from t5x_style.data.corpora.reading.record_texts import Fields
from t5x_style.errors import UserError
from t5x_style.setting_types import Text

if TYPE_CHECKING:
  import seqio


@dataclasses.dataclass(frozen=True)
class Tfds:
  """One text field of a prepared TFDS dataset; nothing is downloaded.

  Attributes:
    dataset: its TFDS name, e.g. "c4/en:3.0.1"; without a version, the newest one on disk.
    data_dir: the folder of the datasets; $TFDS_DATA_DIR or ~/tensorflow_datasets if None.
    field: the field of the examples that holds a document's text.
    train_split, validation_split: TFDS splits or parts of them, e.g. "train[1%:]" and "train[:1%]"
      if the dataset has no validation split. None: no validation.
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
    from t5x_style.data.corpora.reading import tfds_source

    check(self.dataset, self.data_dir, self.field, self._splits())
    name = versioned(self.dataset, self.data_dir)
    builder = _builder(name, self.data_dir)
    return tfds_source.FieldSource(builder, name, self.data_dir, self._splits(), self.field)

  def fingerprint(self) -> str:
    return digest(self.dataset, self.data_dir, self.field, self._splits())

  def parts(self) -> Sequence[Part]:
    check(self.dataset, self.data_dir, self.field, self._splits())
    splits = _builder(self.dataset, self.data_dir).info.splits
    return [
      _part(split, file)
      for split, tfds_split in self._splits().items()
      for file in splits[tfds_split].file_instructions
    ]

  def read(self, part: Part) -> Iterator[Document]:
    assert part.split is not None
    reader, fields = record_formats.Readers().of(part.file), Fields(self.field)
    records = reader.records(part.file, Range(0, None), fields)
    tally = record_tally.Tally(fields, "TFDS_FIELD", refuses=False)
    tally.begin(part.file, reader)
    for number, record in enumerate(itertools.islice(records, part.start, part.end), part.start):
      if found := tally.take(record, number + 1):
        yield Document(part.split, found.text, None, part.file, number + 1)

  def _splits(self) -> dict[str, str]:
    validation = {"validation": self.validation_split} if self.validation_split else {}
    return {"train": self.train_split, **validation}


def check(name: str, data_dir: str | None, field: str, splits: Mapping[str, str]) -> None:
  """Raises UserError if the dataset, the field or a split does not exist; it names those that do.

  Args:
    name: the TFDS name.
    data_dir: None for TFDS's own default.
    field: the field of the examples that holds the text.
    splits: {"train" or "validation": TFDS split or part of one}.
  """
  from t5x_style.data.tensorflow_setup import tf

  builder = _builder(name, data_dir)
  features = builder.info.features
  texts = [key for key, spec in features.items() if spec.dtype in (tf.string, str, object)]
  if field not in texts:
    what = f"is {features[field]}, no text" if field in features else "does not exist"
    raise UserError(
      f"TFDS_FIELD = {field!r} of {name} {what}; fields with text are "
      f"{', '.join(map(repr, texts)) or 'none'}."
    )
  for split, tfds_split in splits.items():
    try:
      empty = builder.info.splits[tfds_split].num_examples == 0
    except (KeyError, ValueError, AssertionError) as error:
      raise UserError(
        f"{name} has no split {tfds_split!r} for {split}; there are "
        f"{', '.join(map(repr, builder.info.splits)) or 'none'}. Set Tfds.train_split and "
        "Tfds.validation_split, e.g. 'train[1%:]' and 'train[:1%]'; validation_split = None "
        "holds out nothing."
      ) from error
    if empty:
      raise UserError(f"the split {tfds_split!r} of {name} is empty; choose another for {split}.")


def versioned(name: str, data_dir: str | None) -> str:
  """Adds the version on disk to a name without one: "c4/en" -> "c4/en:3.0.1"."""
  return name if ":" in name else f"{name}:{_builder(name, data_dir).version}"


def digest(name: str, data_dir: str | None, field: str, splits: Mapping[str, str]) -> str:
  """Returns a fingerprint of TFDS's records of the dataset: its version, splits and file sizes."""
  builder = _builder(name, data_dir)
  facts = {
    split: [tfds_split, builder.info.splits[tfds_split].num_examples]
    for split, tfds_split in splits.items()
  }
  shards = {
    split: [info.num_bytes, list(map(int, info.shard_lengths))]
    for split, info in builder.info.splits.items()
  }
  text = json.dumps([builder.info.full_name, field, facts, shards], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _part(split: str, file: Any) -> Part:
  """Returns the part of a split that an instruction of TFDS is."""
  size = epath.Path(file.filename).stat().length * file.take // max(1, file.examples_in_shard)
  name = file_patterns.absolute(os.fspath(file.filename))
  return Part(split, name, file.skip, file.skip + file.take, size)


def _builder(name: str, data_dir: str | None) -> Any:
  """Opens the prepared dataset; the UserError if it is absent names those on disk."""
  import tensorflow_datasets as tfds

  place = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
  try:
    builder = tfds.builder(name, data_dir=data_dir)
    if epath.Path(builder.data_path).exists() and len(builder.info.splits):
      return builder
    reason = ""
  except (tfds.core.DatasetNotFoundError, ValueError, AssertionError, OSError) as error:
    reason = f" ({str(error).splitlines()[0]})"
  present = sorted(_prepared(place))
  raise UserError(
    f"TFDS_NAME = {name!r} is not in {place}{reason}. "
    + (f"Prepared there: {', '.join(present)}. " if present else "No dataset is prepared there. ")
    + "Set TFDS_NAME, or --tfds_data_dir to where it is, or prepare it: "
    f"`tfds build {name.split(':')[0]} --data_dir={place}`."
  )


def _prepared(folder: str, most: int = 30) -> Iterator[str]:
  """Yields the names of datasets below `folder`, e.g. "c4/en:3.0.1", `most` of them at most."""
  count = 0
  for pattern in ("*/*", "*/*/*"):
    for info in sorted(epath.Path(folder).glob(f"{pattern}/dataset_info.json")):
      if count == most:
        return
      *dataset, version, _ = info.relative_to(folder).parts
      yield f"{'/'.join(dataset)}:{version}"
      count += 1
