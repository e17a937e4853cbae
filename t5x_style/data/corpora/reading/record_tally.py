"""Takes the texts of records, counts those left out or changed, refuses files without documents."""

from __future__ import annotations

import collections
import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from t5x_style.data.corpora.reading import record_texts
from t5x_style.data.corpora.reading.record_reader import Record, RecordReader
from t5x_style.data.corpora.reading.record_texts import (
  Fields,
  LeftOutError,
  MissingFieldError,
  OtherLengthError,
)
from t5x_style.errors import UserError

# After this many records of a file, or of all, reading stops if most of them are wrong.
_PATIENCE = 1000
_SHOWN = 12
_SHOWN_BYTES = 60
_KEPT_FIELDS = 50
LONG = "have a long text, which is read as several documents"
CUT = "have a long text, of which only the first 4 MiB are read, as it has a target"


class Texts(NamedTuple):
  """The text of a record, and what is to be predicted for it."""

  text: bytes
  target: bytes | None


class Place(NamedTuple):
  """Where a record is. Its number may take time to find, if it is not known (0)."""

  reader: RecordReader
  file: str
  position: int
  known_number: int = 0

  @property
  def number(self) -> int:
    """The number of the record or line in its file, from 1."""
    return self.known_number or self.reader.number(self.file, self.position)

  def __str__(self) -> str:
    if self.known_number and self.reader.unit == "line":
      return f"{self.file}:{self.known_number}"
    return self.reader.place(self.file, self.position)


@dataclasses.dataclass
class _File:
  """Counts the records of a file, and those that are left out."""

  name: str
  records: int = 0
  left_out: int = 0
  malformed: int = 0
  first: Place | None = None  # the first that is left out
  first_malformed: tuple[Place, bytes] | None = None


class Tally:
  """Counts the records of files that are read one after another.

  Attributes:
    fields: which are read.
    macro: of the gin files, that sets the field with the text.
    records, documents: how many were read, and were documents.
    left_out: {reason: number of records}.
    other_lengths: how many texts have another length than was asked for.
    changed: {reason: (number of records, place of the first)}.
    files: (name, records left out, records, number of the first of them) of files that have such.
    what: the records of the last file are, such as "JSON lines".
    last_left_out: the place of the last record that was left out.
  """

  def __init__(self, fields: Fields, macro: str, *, refuses: bool = True):
    """Creates a tally.

    Args:
      refuses: whether most records being wrong is an error; not where reading begins in the middle
        of a file, or lasts for days.
    """
    self.fields, self.macro, self._refuses = fields, macro, refuses
    self.records = self.documents = self.other_lengths = 0
    self.left_out: collections.Counter[str] = collections.Counter()
    self.changed: dict[str, tuple[int, Place | str]] = {}
    self.files: list[tuple[str, int, int, int]] = []
    self.what = "records"
    self.last_left_out: Place | None = None
    self._file = _File("")
    self._present: set[str] = set()  # fields of objects without text
    self._objects = 0
    self._missing = ""  # a field that an object did not have
    self._restored: list[Any] = []

  def begin(self, file: str, reader: RecordReader) -> None:
    """Begins to count the records of a file."""
    self._file, self._reader, self.what = _File(file), reader, reader.what

  def state(self) -> dict[str, Any]:
    """Returns all counts as JSON values, from which `restore` resumes."""
    file = self._file
    return {
      "counts": [self.records, self.documents, self.other_lengths, self._objects],
      "left_out": dict(self.left_out),
      "changed": {reason: (n, str(first)) for reason, (n, first) in self.changed.items()},
      "files": self.files,
      "present": sorted(self._present),
      "missing": self._missing,
      "file": [file.records, file.left_out, file.malformed, file.first and file.first.number],
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """Takes over the counts of `state`; call `resume` for the file that was being read."""
    self.records, self.documents, self.other_lengths, self._objects = state["counts"]
    self.left_out = collections.Counter(state["left_out"])
    self.changed = {reason: (n, first) for reason, (n, first) in state["changed"].items()}
    self.files = [tuple(file) for file in state["files"]]
    self._present, self._missing = set(state["present"]), state["missing"]
    self._restored = state["file"]

  def resume(self, file: str, reader: RecordReader) -> None:
    """Resumes the file that was being read when the state was taken."""
    self.begin(file, reader)
    records, left_out, malformed, first = self._restored
    # Whether most records are malformed is decided by the first ones, which were read before.
    place = None if first is None else Place(reader, file, 0, first)
    self._file = _File(file, records, left_out, malformed, place)

  def take(self, record: Record, number: int = 0) -> Texts | None:
    """Returns the texts of a record; None if it is left out.

    Args:
      number: of the record in its file, from 1, if it is known.

    Raises:
      UserError: most records of the file, or all of all files, are wrong.
    """
    notes: list[str] = []
    file, found = self._file, None
    try:
      example = self._reader.example(record.raw, self.fields, notes.append)
      if example is None:
        return None
      self._objects += 1
      found = Texts(*record_texts.texts(example, self.fields, notes.append))
    except OtherLengthError:
      self.other_lengths += 1
    except LeftOutError as reason:
      self._leave_out(reason, record, number)
    else:
      self.documents += 1
      for note in notes:
        self.change(note, record, number)
    file.records += 1
    self.records += 1
    if file.records == _PATIENCE:
      self._check_file()
    return found

  def change(self, reason: str, record: Record, number: int = 0) -> None:
    """Counts a record that is read, but not as it is."""
    count, first = self.changed.get(reason, (0, self._place(record, number)))
    self.changed[reason] = (count + 1, first)

  def end(self) -> None:
    """Ends the file; raises UserError if most of its records are not what they should be."""
    self._check_file()
    if (file := self._file).first:
      number = file.first.number if len(self.files) < _SHOWN else 0
      self.files.append((file.name, file.left_out, file.records, number))

  def _place(self, record: Record, number: int) -> Place:
    return Place(self._reader, self._file.name, record.position, number)

  def _leave_out(self, reason: LeftOutError, record: Record, number: int) -> None:
    file, place = self._file, self._place(record, number)
    self.left_out[str(reason)] += 1
    file.left_out += 1
    file.first, self.last_left_out = file.first or place, place
    if reason.malformed:
      file.malformed += 1
      file.first_malformed = file.first_malformed or (place, record.raw)
    if isinstance(reason, MissingFieldError):
      if len(self._present) < _KEPT_FIELDS:
        self._present.update(reason.present)
      if self._refuses and self.documents == 0 and self._objects >= _PATIENCE:
        self.check_found(str(place))
      self._missing = reason.field

  def _check_file(self) -> None:
    file = self._file
    if not (file.first_malformed and self._refuses) or 2 * file.malformed <= file.records:
      return
    place, raw = file.first_malformed
    unit, shown = self._reader.unit, raw[:_SHOWN_BYTES].decode(errors="replace")
    raise UserError(
      f"{file.name}: {file.malformed:,} of the first {file.records:,} {unit}s are not "
      f"{self._reader.objects}; {unit} {place.number:,} is {shown!r}. "
      f"{self._reader.advice(file.name, raw)}"
    )

  def check_found(self, where: str) -> None:
    """Raises UserError, which names the fields, if there is no document."""
    if self.documents:
      return
    if self._present and self._missing:
      purpose = "the text" if self._missing == self.fields.text else "what is to be predicted"
      macro = self.macro if self._missing == self.fields.text else "TARGET_FIELD"
      shown = [*map(repr, sorted(self._present)[:_SHOWN]), *["..."] * (len(self._present) > _SHOWN)]
      raise UserError(
        f"{macro} = {self._missing!r}: no object read from {where} has that field; they have "
        f"{', '.join(shown)}. Set {macro} to the one with {purpose}."
      )
    if self.other_lengths:
      raise UserError(
        f"no document in {where} has a length between MIN_CHARACTERS = "
        f"{self.fields.lengths.fewest} and MAX_CHARACTERS = {self.fields.lengths.most}; change "
        "them, or set them to 0 and None."
      )
    unit = self._reader.unit
    reasons = "; ".join(f"{count} {unit}s {reason}" for reason, count in self.left_out.items())
    raise UserError(
      f"no document in {where}: {reasons or f'there are no {unit}s'}. CORPUS_FILES must match "
      f"files of {self._reader.objects} with a text in {self.macro} = {self.fields.text!r}."
    )

  def facts(self) -> dict[str, Any]:
    """Returns the counts, as JSON values, for `warn`."""
    return {
      "lines": self.records,
      "left_out": dict(self.left_out),
      "changed": {reason: (n, str(first)) for reason, (n, first) in self.changed.items()},
      "files": self.files[:_SHOWN],
      "more_files": max(0, len(self.files) - _SHOWN),
    }


def warn(facts: Mapping[str, Any], what: str) -> None:
  """Warns of the records that were left out or changed.

  Args:
    facts: of a Tally.
    what: the records are, such as "JSON lines".
  """
  if facts["left_out"]:
    unit = what.split()[-1].removesuffix("s")
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in facts["left_out"].items())
    places = [
      f"{file} {left_out:,} of {lines:,}, the first is {unit} {first}"
      for file, left_out, lines, first in facts["files"]
    ]
    if facts["more_files"]:
      places.append(f"and {facts['more_files']:,} more files")
    warnings.warn(
      f"{sum(facts['left_out'].values()):,} of {facts['lines']:,} {what} are left out: "
      f"{reasons}. In {'; '.join(places)}.",
      stacklevel=3,
    )
  for reason, (count, first) in facts["changed"].items():
    warnings.warn(f"{count:,} {what} {reason}; the first is {first}.", stacklevel=3)
