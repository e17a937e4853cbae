"""The text of a record, and what is to be predicted for it, from its fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from t5x_style.data.corpora.reading.text_lengths import Lengths

_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")
NOT_UTF8 = "have bytes that are not UTF-8, which are read as U+FFFD"

Note = Callable[[str], None]  # takes what is changed in a record


class Fields(NamedTuple):
  """The names of the fields that are read, and which lengths of texts."""

  text: str
  target: str | None = None  # what is to be predicted for a text
  lengths: Lengths = Lengths()


class LeftOutError(Exception):
  """Why a record is left out; `malformed` if it is not a record with fields at all."""

  def __init__(self, reason: str, malformed: bool = False):
    super().__init__(reason)
    self.malformed = malformed


class MissingFieldError(LeftOutError):
  """A record does not have a field; `present` are those it has."""

  def __init__(self, field: str, present: tuple[str, ...]):
    super().__init__(f"have no field {field!r}")
    self.field, self.present = field, present


class OtherLengthError(LeftOutError):
  """A text has a length that is not asked for, which is no fault of the record."""


def texts(example: Mapping[str, Any], fields: Fields, note: Note) -> tuple[bytes, bytes | None]:
  """Returns text and target of a record.

  Args:
    example: {field: value}.
    note: is told what is changed.

  Raises:
    LeftOutError: a field is missing or has no text, or the text has another length than asked for.
  """
  text = _field(example, fields.text, note)
  target = None
  if fields.target is not None:
    target = _encoded(_as_text(_field(example, fields.target, note, labels=True)), note)
  encoded = _encoded(text, note)
  if text not in fields.lengths:
    raise OtherLengthError("have another length")
  return encoded, target


def _field(example: Mapping[str, Any], field: str, note: Note, labels: bool = False) -> Any:
  """Returns a field with text.

  Args:
    labels: whether whole numbers and true and false may be there, too.
  """
  if field not in example:
    raise MissingFieldError(field, tuple(example))
  text = example[field]
  if labels and (isinstance(text, bool | int) or (isinstance(text, float) and text.is_integer())):
    return text
  if isinstance(text, bytes):
    text = _decoded(text, note)
  if not isinstance(text, str):
    raise LeftOutError(f"have no text {'and no label ' * labels}in {field!r}")
  if not text.strip():
    raise LeftOutError(f"have only space in {field!r}")
  return text


def _decoded(text: bytes, note: Note) -> str:
  try:
    return text.decode()
  except UnicodeDecodeError:
    note(NOT_UTF8)
    return text.decode(errors="replace")


def _encoded(text: str, note: Note) -> bytes:
  try:
    return text.encode()
  except UnicodeEncodeError:
    note("have halves of characters (\\ud800 to \\udfff), read as U+FFFD")
    return _HALF_CHARACTERS.sub("\ufffd", text).encode()


def _as_text(label: str | float | bool) -> str:
  """Returns a label as text: true -> "true", 3.0 -> "3", as they are written in JSON."""
  if isinstance(label, bool):
    return "true" if label else "false"
  return label if isinstance(label, str) else str(int(label))
