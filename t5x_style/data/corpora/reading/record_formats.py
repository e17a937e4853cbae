"""Which reader reads the records of a file, recognised by its first bytes; and which files of a
folder hold records."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence

from t5x_style.data.corpora.reading import (
  columnar_files,
  file_patterns,
  json_lines,
  record_containers,
  remote_files,
  text_reading,
)
from t5x_style.data.corpora.reading.record_reader import RecordReader
from t5x_style.errors import UserError

_PARQUET, _ARROW = b"PAR1", (b"ARROW1", b"\xff\xff\xff\xff")
# Of a block of Riegeli, which ArrayRecord's files consist of.
_ARRAY_RECORD = b"\x83\xaf\x70\xd1\x0d\x88\x4a\x3f"
_HEAD = 12  # bytes, of which the longest mark is TFRecord's: a length and its checksum

_NAMES = re.compile(
  r"\.(jsonl|ndjson|json|parquet|tfrecords?|array_?record|arrow|feather)(-\d+-of-\d+)?"
  r"(\.(gz|bz2|xz|zst))?$"
)
# Files beside the data, in folders that Hugging Face's datasets and TFDS wrote.
_ASIDE = {"dataset_info.json", "dataset_dict.json", "state.json", "features.json"}


class Readers:
  """The readers of the formats; files are recognised once."""

  def __init__(self) -> None:
    self._json_lines = json_lines.JsonLines()
    self._parquet, self._arrow = columnar_files.Parquet(), columnar_files.Arrow()
    self._tfrecords = record_containers.TFRecords()
    self._array_records = record_containers.ArrayRecords()
    self._known: dict[str, RecordReader] = {}

  def of(self, file: str) -> RecordReader:
    """Returns the reader of a file; that of JSON lines if its format is not recognised.

    Raises:
      UserError: the file cannot be read.
    """
    if file not in self._known:
      self._known[file] = self._recognised(file)
    return self._known[file]

  def _recognised(self, file: str) -> RecordReader:
    with text_reading.naming(file), text_reading.open_data(file) as stream:
      head = stream.read(_HEAD)
    if head.startswith(_PARQUET):
      return self._parquet
    if head.startswith(_ARROW):
      return self._arrow
    if head.startswith(_ARRAY_RECORD):
      return self._array_records
    if record_containers.begins_tfrecord(head):
      return self._tfrecords
    return self._json_lines


def in_folder(files: Sequence[str]) -> list[str]:
  """Returns those files below a folder that hold records, by their names.

  Raises:
    UserError: the folder holds several splits of a dataset of Hugging Face.
  """
  saved: dict[str, set[str]] = {}  # folder of a dataset that was saved to disk: its files
  for file in files:
    folder, name = os.path.split(file)
    if name == "dataset_dict.json":
      splits = _json(file).get("splits", ["train"])
      raise UserError(
        f"{folder} is a dataset of Hugging Face with the splits {', '.join(splits)}: set "
        f"CORPUS_FILES to one of them, e.g. {f'{folder}/{splits[0]}'!r}, and VALIDATION_FILES to "
        "another, or to None to hold out a share."
      )
    if name == "state.json":
      saved[folder] = {entry["filename"] for entry in _json(file).get("_data_files", [])}
  found = []
  for file in files:
    folder, name = os.path.split(file)
    if _NAMES.search(name) and name not in _ASIDE and name in saved.get(folder, {name}):
      found.append(file)
  return found


def _json(file: str) -> dict:
  try:
    if file_patterns.is_remote(file):
      with remote_files.open_file(file) as stream:
        return json.loads(stream.readall())
    with open(file, "rb") as local:
      return json.load(local)
  except (OSError, ValueError) as error:
    raise UserError(f"{file}: it cannot be read ({error}).") from error
