"""Bits per byte of gzip, bz2 and xz: what can be predicted of a text without knowing its language.

A model whose bits per byte on the same text are not lower has not learnt the language.
"""

from __future__ import annotations

import bz2
import concurrent.futures
import lzma
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

COMPRESSORS = {
  "gzip": lambda text: zlib.compress(text, 9),
  "bz2": bz2.compress,
  "xz": lambda text: lzma.compress(text, preset=9),
}
MOST_BYTES = 1 << 23  # of a text; xz compresses about 0.6 MB a second


class Compressed(NamedTuple):
  """What compressors make of a text.

  Attributes:
    bits_per_byte: of each of COMPRESSORS.
    bytes: of the text, UTF-8.
    bytes_before: of the training text that is given, 0 if none is.
    whole: whether the text is all of the held-out text, not only its beginning.
  """

  bits_per_byte: dict[str, float]
  bytes: int
  bytes_before: int
  whole: bool

  def as_json(self) -> dict[str, Any]:
    """Returns all fields, and the method in words."""
    return {**self._asdict(), "method": self.method}

  @property
  def method(self) -> str:
    """Says in words what was compressed."""
    text = f"{self.bytes:,} bytes of held-out text" + ("" if self.whole else " (its beginning)")
    if not self.bytes_before:
      return f"{text}, compressed alone"
    return f"{text}, given the {self.bytes_before:,} bytes of training text"


def compress(held_out: Iterable[bytes], train: Iterable[bytes]) -> Compressed | None:
  """Compresses a held-out text, given the training text if that is small.

  Given a text, another one costs size(both) - size(the first).

  Args:
    held_out, train: the documents of each split; read up to MOST_BYTES.

  Returns:
    None if there is no held-out text.
  """
  text, whole = _joined(held_out)
  if not text:
    return None
  before, all_of_it = _joined(train)
  before = before if all_of_it else b""
  with concurrent.futures.ThreadPoolExecutor(len(COMPRESSORS)) as threads:
    sizes = threads.map(lambda name: _size(name, text, before), COMPRESSORS)
    bits = {name: 8 * size / len(text) for name, size in zip(COMPRESSORS, sizes, strict=True)}
  return Compressed(bits, len(text), len(before), whole)


def _size(name: str, text: bytes, before: bytes) -> int:
  compressor = COMPRESSORS[name]
  return len(compressor(before + text)) - (len(compressor(before)) if before else 0)


def _joined(documents: Iterable[bytes]) -> tuple[bytes, bool]:
  """Returns documents as one text, and whether it is all of them."""
  parts, size = [], 0
  for document in documents:
    parts.append(document)
    size += len(document)
    if size > MOST_BYTES:
      return b"".join(parts)[:MOST_BYTES], False
  return b"".join(parts), True
