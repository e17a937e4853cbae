"""Documents of files of records, without TensorFlow: their parts, and the documents of a part."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import TypeVar

from t5x_style.data.corpora.reading import (
  file_patterns,
  known_files,
  record_formats,
  record_tally,
  text_checks,
)
from t5x_style.data.corpora.reading.parts import Document, Part
from t5x_style.data.corpora.reading.record_reader import Range
from t5x_style.data.corpora.reading.record_texts import Fields
from t5x_style.errors import UserError

# Increase it when the same files give other text or another order, so that no run resumes so.
VERSION = 1
# Parts have about this many bytes, where the format can be cut.
_PART_BYTES = 2**25
# This many bytes of records are looked at before a run starts, in all files together, and in each.
_CHECKED_BYTES, _LEAST_CHECKED = 2**25, 2**16
_CHECKED_FILES = 128
_THREADS = 16  # They mostly wait for the disk or the network.
# Different targets are counted up to this number; with more they are texts, and no labels.
MOST_LABELS = 1000
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class RecordFiles:
  """The files of a corpus, and what is read of them.

  Attributes:
    files: of "train" and, if it has its own files, of "validation".
    fields: which are read.
    held_out: the share of the "train" documents that is "validation", by a hash of their text.
    macro: of the gin files, that sets the field with the text.
  """

  files: Mapping[str, Sequence[str]]
  fields: Fields
  held_out: float
  macro: str
  readers: record_formats.Readers = dataclasses.field(
    default_factory=record_formats.Readers, compare=False
  )

  def every(self) -> list[str]:
    """Returns all files, each once."""
    return sorted({file for names in self.files.values() for file in names})

  @functools.cached_property
  def total_bytes(self) -> int:
    """The size of all files."""
    return sum(_in_threads(file_patterns.size, self.every()))

  @functools.cached_property
  def fingerprint(self) -> str:
    """Changes with the texts and their order, but not with the place of the files."""
    return known_files.digest(self.files, "records", VERSION, self._settings)

  @property
  def _settings(self) -> tuple:
    field, target, lengths = self.fields
    return field, target, tuple(lengths), self.held_out

  def parts(self, size: int | None = None) -> list[Part]:
    """Returns the parts of all files, of about `size` bytes where the format can be cut."""
    size = size or _PART_BYTES
    found = []
    for split, names in sorted(self.files.items()):
      decided = None if split == "train" and self.held_out else split
      ranges = _in_threads(lambda file: self.readers.of(file).ranges(file, size), names)
      found += [
        Part(decided, file, *where)
        for file, every in zip(names, ranges, strict=True)
        for where in every
      ]
    return found

  def read(self, part: Part) -> Iterator[Document]:
    """Yields the documents of a part; warns at its end of records that are left out or changed."""
    reader, file = self.readers.of(part.file), part.file
    whole = part.start == 0 and part.end is None
    tally = record_tally.Tally(self.fields, self.macro, refuses=whole)
    tally.begin(file, reader)
    number = 0
    for record in reader.records(file, Range(part.start, part.end), self.fields):
      number = number + 1 if number else reader.number(file, record.position)
      if found := tally.take(record, number):
        yield Document(self.split_of(part, found.text), found.text, found.target, file, number)
    tally.end()
    record_tally.warn(tally.facts(), reader.what)

  def split_of(self, part: Part, text: bytes) -> str:
    """Returns the split of a document of a part."""
    return part.split or split_of(text, self.held_out)

  def check(self) -> record_tally.Tally:
    """Checks the fields and the first records of the files, within seconds.

    Returns:
      what was counted.

    Raises:
      UserError: a file is damaged or of another format, or no text is found.
    """
    tally, every = record_tally.Tally(self.fields, self.macro), self.every()
    _in_threads(lambda file: self.readers.of(file).check(file, self.fields, self.macro), every)
    lines = [file for file in every if self.readers.of(file).unit == "line"]
    text_checks.check_files(lines, None)
    seen = every[:: -(-len(every) // _CHECKED_FILES) or 1]
    most = max(_LEAST_CHECKED, _CHECKED_BYTES // len(seen))
    complete, trained = seen == every, False
    held_out = set(self.files.get("validation", ()))
    for file in seen:
      reader, size = self.readers.of(file), 0
      tally.begin(file, reader)
      for number, record in enumerate(reader.records(file, Range(0, None), self.fields), 1):
        if found := tally.take(record, number):
          size += len(found.text)
          trained |= file not in held_out and split_of(found.text, self.held_out) == "train"
        if size > most or number > most // 16:
          complete = False
          break
      tally.end()
    where = ", ".join(names[0] for names in self.files.values())
    tally.check_found(where)
    if complete and not trained:
      raise UserError(
        f"all {tally.documents} documents in {where} are held out; give more documents, "
        "VALIDATION_FILES, or VALIDATION_FRACTION = 0."
      )
    return tally

  def targets(self) -> dict[str, dict[str, int]]:
    """Returns {split: {target: number of documents}}, after reading all files.

    Of more than MOST_LABELS different targets not all are counted.
    """
    counts: dict[str, collections.Counter[str]] = {}
    for part in self.parts() if self.fields.target else ():
      for document in self.read(part):
        assert document.target is not None
        found = counts.setdefault(document.split, collections.Counter())
        if len(found) <= MOST_LABELS:
          found[document.target.decode()] += 1
    return {split: dict(found) for split, found in counts.items()}


def _in_threads(function: Callable[[str], _Result], files: Sequence[str]) -> list[_Result]:
  """Returns the results of a function for each file, in order."""
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    return list(pool.map(function, files))


def split_of(text: bytes, held_out: float) -> str:
  """Returns "validation" for a share `held_out` of the texts, by their hash; else "train"."""
  if not held_out:
    return "train"
  share = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
  return "validation" if share < held_out * 2**32 else "train"
