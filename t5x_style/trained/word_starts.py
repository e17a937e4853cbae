"""Where words begin in a row of tokens, for scores that mask the rest of a word."""

from __future__ import annotations

from collections.abc import Sequence

from t5x_style.codecs.text_codec import TextCodec


def word_numbers(codec: TextCodec, ids: Sequence[int]) -> list[int]:
  """Returns the number of the word that each token belongs to, from 0.

  A token continues the word of the one before it if a letter, digit or underscore follows another
  directly, or if it begins inside a character. All other tokens begin a word, punctuation too.

      tokens   " un" "bel" "iev" "able" "!" " yes"
      returns     0     0     0     0    1     2
  """
  pieces = [codec.visible_bytes[i] for i in ids]
  text = b"".join(pieces)
  numbers: list[int] = []
  start = 0
  for piece in pieces:
    begins = bool(numbers) and not _is_inside_word(text, start)
    numbers.append((numbers[-1] if numbers else 0) + begins)
    start += len(piece)
  return numbers


def _is_inside_word(text: bytes, place: int) -> bool:
  """Returns whether a place in UTF-8 is inside a character, or between two letters of a word."""
  if place < len(text) and 0x80 <= text[place] < 0xC0:
    return True
  before = text[max(0, place - 4) : place].decode(errors="ignore")[-1:]
  after = text[place : place + 4].decode(errors="ignore")[:1]
  return all(x.isalnum() or x == "_" for x in (before, after))
