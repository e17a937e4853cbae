"""What reads the records of files of a format, one class a format: the protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from t5x_style.data.corpora.reading.known_files import KnownFiles
from t5x_style.data.corpora.reading.record_texts import Fields, Note


class Range(NamedTuple):
  """A range of positions in a file, of which each format has its own; no end: that of the file.

  `ranges` says its size, too, in bytes, about.
  """

  start: int
  end: int | None
  size: int = 0


class Record(NamedTuple):
  """A record as it is in the file.

  Attributes:
    position: of the record.
    after: the position after it: what follows depends only on that.
    raw: what `example` takes.
  """

  position: int
  after: int
  raw: Any


class RecordReader(Protocol):
  """Reads the records of files of a format; threads may share it.

  Attributes:
    what, unit, objects: for messages, such as "JSON lines", "line" and "JSON objects".
    grow: whether a file that has grown can be read up to its former size.
  """

  grow: bool

  what: str
  unit: str
  objects: str

  def ranges(self, file: str, size: int) -> list[Range]:
    """Returns ranges that hold each record once, of about `size` bytes if the format allows it.

    Raises:
      UserError: the file is damaged or cannot be read.
    """
    ...

  def check(self, file: str, fields: Fields, macro: str) -> None:
    """Raises UserError if the file says that its records do not have the fields.

    Args:
      macro: of the gin files, that sets the field with the text.
    """
    ...

  def records(
    self, file: str, where: Range, fields: Fields, known: KnownFiles | None = None
  ) -> Iterator[Record]:
    """Yields the records of a range, which may also start at any record's position.

    Args:
      fields: those that `example` will be asked for.
      known: the files of a run that trains; nothing is read but what it knows.

    Raises:
      UserError: the file is damaged, has changed or cannot be read.
    """
    ...

  def example(self, raw: Any, fields: Fields, note: Note) -> Mapping[str, Any] | None:
    """Returns the fields of a record, at least those of `fields`; None if there is no record.

    Args:
      note: is told what is changed.

    Raises:
      LeftOutError: it is not a record.
    """
    ...

  def number(self, file: str, position: int) -> int:
    """Returns the number, from 1, of the record or line at a position."""
    ...

  def place(self, file: str, position: int) -> str:
    """Names the record at a position, for messages."""
    ...

  def advice(self, file: str, raw: Any) -> str:
    """Says what to do about a file in which most records, such as this one, are malformed."""
    ...
