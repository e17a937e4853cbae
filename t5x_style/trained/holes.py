"""Texts with holes: where they are, and the text with something in them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from t5x_style.codecs.text_codec import TextCodec
from t5x_style.errors import UserError

# What may stand for a hole in a text, whatever the model's own tokens are.
MARKER = re.compile(r"\[MASK\]|<mask>|<extra_id_\d+>")
# What is put before a text so that its first word is not taken for the first of a text.
_ANCHORS = (".", "-", ",", "(")


@dataclasses.dataclass(frozen=True)
class HoledText:
  """A text that has holes.

  Attributes:
    parts: the text before, between and after its holes: one more than there are holes.
    ids: of each part.
    spaces: for each hole, whether a space before it belongs to it: in most vocabularies a space is
      a part of the word that follows.
  """

  parts: tuple[str, ...]
  ids: tuple[tuple[int, ...], ...]
  spaces: tuple[bool, ...]

  @property
  def count(self) -> int:
    """How many holes there are."""
    return len(self.spaces)

  def joined(self, fillings: Sequence[str]) -> str:
    """Returns the text with something in each hole."""
    parts = [self.parts[0]]
    for filling, part in zip(fillings, self.parts[1:], strict=True):
      parts += [filling, part]
    return "".join(parts)

  def ids_with(self, fillings: Sequence[Sequence[int]]) -> list[int]:
    """Returns the ids of the text with some ids in each hole."""
    row = list(self.ids[0])
    for filling, part in zip(fillings, self.ids[1:], strict=True):
      row += [*filling, *part]
    return row


def read(codec: TextCodec, text: str) -> HoledText:
  """Reads a text in which [MASK], <mask> or <extra_id_N> stands for each hole.

  Raises:
    UserError: it has no hole.
  """
  parts = MARKER.split(text)
  if len(parts) == 1:
    raise UserError(
      "The text has no hole to fill: write [MASK] or <extra_id_0> where something is missing."
    )
  joins = _joins_spaces(codec)
  spaces = tuple(joins and part.endswith(" ") for part in parts[:-1])
  kept = [part[:-1] if i < len(spaces) and spaces[i] else part for i, part in enumerate(parts)]
  ids = [codec.encode(kept[0]) if kept[0] else []]
  ids += [encode_inside(codec, part) for part in kept[1:]]
  return HoledText(tuple(kept), tuple(map(tuple, ids)), spaces)


def encode_inside(codec: TextCodec, text: str) -> list[int]:
  """Returns the ids of a part of a text that is not its beginning.

  Some vocabularies put a space in front of every text; it would not be there inside of one.
  """
  if not text:
    return []
  ids = codec.encode(text)
  if not codec.keeps_text or not ids or text[0].isspace():
    return ids
  if not codec.visible_bytes[ids[0]].startswith(b" "):
    return ids
  for anchor in _ANCHORS:
    row, shown = codec.encode(anchor + text), b""
    for place, i in enumerate(row):
      if shown.strip() == anchor.encode():
        return row[place:]
      shown += codec.visible_bytes[i]
  return ids


def filling_text(codec: TextCodec, ids: Sequence[int], space: bool) -> str:
  """Returns the text that ids put into a hole, with its spaces.

  Args:
    ids: what a model wrote; special tokens among them are left out.
    space: whether there was a space before the hole that belongs to it.
  """
  text = b"".join(
    codec.visible_bytes[i]
    for i in map(int, ids)
    if 0 <= i < codec.vocab_size and i not in codec.marks and i != codec.eos_id
  ).decode("utf-8", errors="replace")
  if codec.keeps_text:
    return text
  # Only words tell where spaces are: the user's text says more.
  return text if space or not text.startswith(" ") else text[1:]


def _joins_spaces(codec: TextCodec) -> bool:
  """Returns whether a space and the word after it share a token."""
  if not codec.keeps_text:
    return True
  return any(
    codec.visible_bytes[i].startswith(b" ") and len(codec.visible_bytes[i]) > 1
    for i in codec.encode("a the of in")[1:]
  )
