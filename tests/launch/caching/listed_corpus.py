"""A corpus whose documents are listed in the test."""

import dataclasses
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from t5x_style.errors import UserError


class Listed(NamedTuple):
  """A document as a corpus gives it."""

  split: str
  text: bytes
  target: bytes | None
  file: str
  line: int


class Part(NamedTuple):
  """Documents of one file, from number `start` to before `end`."""

  split: str | None
  file: str
  start: int
  end: int
  size: int = 1


@dataclasses.dataclass(frozen=True)
class ListedCorpus:
  """Gives documents in parts of `a_part` each; of a text that begins with "warn" it warns.

  Attributes:
    documents: (split, text, target).
    fails: a file that holds the start of the part that cannot be read.
  """

  documents: tuple[tuple[str, bytes, bytes | None], ...]
  a_part: int = 4
  fails: str = ""
  name: str = "listed"

  def parts(self) -> Sequence[Part]:
    starts = range(0, len(self.documents), self.a_part)
    return [Part(None, f"file{s % 3}", s, s + self.a_part) for s in starts]

  def read(self, part: Part) -> Iterator[Listed]:
    if self.fails and open(self.fails).read().strip() == str(part.start):
      raise UserError(f"{part.file}: it cannot be read.")
    for number in range(part.start, min(part.end, len(self.documents))):
      if self.documents[number][1].startswith(b"warn"):
        warnings.warn(f"document {number} is strange", stacklevel=1)
      yield Listed(*self.documents[number], part.file, number + 1)

  def fingerprint(self) -> str:
    return hashlib.sha256(repr(self.documents).encode()).hexdigest()

  def targets(self) -> dict:
    return {"train": {"x": 1}} if self.documents[0][2] is not None else {}
