"""Finds words and the ends of sentences in rows of tokens.

A token may be a part of a character (a byte) or several words. So the text of a row is restored,
words and sentences are found in it by the Unicode classes of its characters, and the result is
given per token. NumPy arrays and tensors give the same result; see t5x_style/data/arrays.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import regex

from t5x_style.data import arrays
from t5x_style.data.arrays import Array
from t5x_style.data.tokenizers.token_ids import TokenIds

# Classes of characters: the first pattern that matches decides; _OTHER where none does.
_OTHER, _APART, _LINE, _SPACE, _EXTEND = range(5)
_IDEOGRAPH, _APOSTROPHE, _NUMBER, _LETTER, _FLAG, _PICTURE = range(5, 11)
_FULL_STOP, _TERMINAL, _QUOTE, _CLOSING = range(11, 15)

# _EXTEND belongs to the character before it: accents, vowel signs, viramas, joiners, skin tones.
_COMMON = {
  _APART: r"\0",
  _LINE: r"[\n\v\f\r\x85\u2028\u2029]",
  _SPACE: r"[\s\u200b]",
  _EXTEND: r"[\p{M}\p{Cf}\p{Emoji_Modifier}]",
}
_WORDS = {
  **_COMMON,
  _IDEOGRAPH: r"\p{Ideographic}",
  # UAX #29 has full stops and colons inside words, too: "os.path" would be one.
  _APOSTROPHE: r"[[\p{WB=MidLetter}\p{WB=MidNumLet}\p{WB=Single_Quote}]--"
  r"[.:\u2024\ufe13\ufe52\ufe55\uff0e\uff1a]]",
  _NUMBER: r"[\p{N}\p{Pc}]",
  _LETTER: r"[\p{Alphabetic}\ufffd]",
  _FLAG: r"\p{Regional_Indicator}",
  _PICTURE: r"\p{Extended_Pictographic}",
}
_SENTENCES = {
  **_COMMON,
  _FULL_STOP: r"\.",
  _TERMINAL: r"\p{Sentence_Terminal}",
  _QUOTE: r"[\p{Pi}\"'`]",
  _CLOSING: r"[\p{Pe}\p{Pf}]",
}
_ZERO_WIDTH_JOINER = 0x200D


class _Text(NamedTuple):
  """All rows as one text of N characters, with a NUL before each row; offsets are in bytes."""

  characters: Array  # int32 [N]; bytes that are not UTF-8 are U+FFFD
  classes: Array  # int32 [N]
  starts: Array  # int32 [N]
  token_starts: Array  # int32 [B L]
  token_ends: Array  # int32 [B L]

  def where(self, kept: Array) -> _Text:
    """Returns the text with only the characters of `kept`, bool [N]."""
    xp = arrays.of(kept)
    characters, classes, starts = (xp.select(x, kept) for x in self[:3])
    return self._replace(characters=characters, classes=classes, starts=starts)


class WordsAndSentences:
  """Finds the words and sentences in rows of tokens of a vocabulary."""

  def __init__(self, ids: TokenIds):
    pieces = [*_pieces(ids), b"\0"]  # The last one is put before each row.
    self._pieces = np.array(pieces, object)
    self._sizes = np.array([len(piece) for piece in pieces], np.int32)

  def word_ids(self, tokens: Array) -> Array:
    """Numbers the words of int32 [B, L] from 0; each character between words counts as one.

    A word is a run of letters, digits and underscores with their combining marks, and with
    apostrophes between letters (Unicode's UAX #29, without full stops and colons). As in BERT each
    ideograph is a word; in other scripts without spaces (Thai, kana) a word goes up to the next
    space or punctuation. Consecutive tokens belong to one word unless a word begins between them.
    """
    xp, length = arrays.of(tokens), tokens.shape[1]
    starts = _word_starts(self._read(tokens, _classes_of_words()))
    starts = xp.in_rows(starts, length)[:, 1:]
    return xp.cumsum(xp.pad(xp.cast(starts, np.int32), 1, 0))

  def sentence_ends(self, tokens: Array) -> Array:
    """Marks the tokens at which a sentence or a line ends, EOS included: int32 -> bool [B, L].

    A sentence ends with a Sentence_Terminal of Unicode (. ? ! and those of other scripts) and the
    closing quotes and brackets after it, or with the line. After a full stop there must be a space
    or the end of the line. Thai and Lao have no such characters: only their lines end.
    """
    ends = _sentence_ends(self._read(tokens, _classes_of_sentences()))
    return arrays.of(tokens).shaped(ends, tokens)

  def _read(self, tokens: Array, table: tuple[np.ndarray, np.ndarray]) -> _Text:
    xp = arrays.of(tokens)
    marked = xp.concat([xp.filled(tokens, 1, len(self._pieces) - 1), tokens])
    characters, starts = xp.code_points(self._pieces, xp.flat(marked))
    firsts, classes = table
    found = xp.searchsorted(firsts, characters, side="right") - 1
    sizes = xp.take(self._sizes, marked)
    ends = xp.shaped(xp.cumsum(xp.flat(sizes)), marked)
    return _Text(
      characters,
      xp.take(classes, found),
      starts,
      xp.flat(ends[:, :-1]),
      xp.flat(ends[:, 1:]),
    )


def _word_starts(text: _Text) -> Array:
  """Returns whether a word, or a character between words, begins where a token does: bool [B L]."""
  xp = arrays.of(text.classes)
  before = _moved(text.classes, 1, _APART)
  extends = text.classes == _EXTEND
  # A combining mark without a character before it counts as a letter.
  alone = extends & ((before == _APART) | (before == _LINE) | (before == _SPACE))
  text = text._replace(classes=xp.where(alone, _LETTER, text.classes))
  joined = (text.classes == _PICTURE) & (_moved(text.characters, 1, 0) == _ZERO_WIDTH_JOINER)
  whole = alone | ~extends
  joined = xp.select(joined, whole)
  text = text.where(whole)

  before, after = _moved(text.classes, 1, _APART), _moved(text.classes, -1, _APART)
  apostrophe = (text.classes == _APOSTROPHE) & (before == _LETTER) & (after == _LETTER)
  word = (text.classes == _LETTER) | (text.classes == _NUMBER) | apostrophe
  joined |= (word & _moved(word, 1, False)) | ((text.classes == _FLAG) & (before == _FLAG))
  at = xp.searchsorted(text.starts, text.token_starts)
  # A token that begins inside a character, or with a mark, belongs to the word of the one before.
  at = xp.minimum(at, xp.size(text.starts) - 1)
  return (xp.take(text.starts, at) == text.token_starts) & ~xp.take(joined, at)


def _sentence_ends(text: _Text) -> Array:
  """Returns whether a token, without spaces at its end, ends a sentence: bool [B L]."""
  xp = arrays.of(text.classes)
  text = text.where(text.classes != _EXTEND)
  classes, after = text.classes, _moved(text.classes, -1, _APART)
  line, space = classes == _LINE, classes == _SPACE
  stop = (classes == _TERMINAL) | (classes == _FULL_STOP)
  # A quote that may open or close opens where text follows it directly.
  closing = (classes == _CLOSING) | ((classes == _QUOTE) & (after != _OTHER))
  of = xp.take(xp.select(classes, ~closing), xp.cumsum(xp.cast(~closing, np.int32)) - 1)
  ended = (of == _TERMINAL) | (
    (of == _FULL_STOP) & ((after == _SPACE) | (after == _LINE) | (after == _APART))
  )
  ended &= ~_moved(closing | stop, -1, False)
  # Where a stop ends a line, and where several empty lines follow, only the last one is the end.
  seen = xp.cumsum(xp.cast(~space, np.int32))
  visible = xp.pad(xp.select(classes, ~space), 0, 1, _APART)
  ended = (ended | line) & ~space & (xp.take(visible, seen) != _LINE)

  last = xp.searchsorted(text.starts, text.token_ends) - 1
  places = xp.indices(~space)
  last = xp.take(places, xp.take(seen, last) - 1)  # the last in the token that is no space
  its_end = xp.take(xp.concat([text.starts[1:], text.token_ends[-1:]]), last)
  complete = (its_end > text.token_starts) & (its_end <= text.token_ends)
  return xp.take(ended, last) & complete


def _moved(values: Array, by: int, fill: int | bool) -> Array:
  """Returns the value before (by = 1) or after (-1) each one, else `fill`: [N] -> [N]."""
  xp = arrays.of(values)
  end = xp.cast([fill], values.dtype)
  return xp.concat([end, values[:-1]] if by == 1 else [values[1:], end])


@functools.cache
def _classes_of_words() -> tuple[np.ndarray, np.ndarray]:
  return _ranges(_WORDS)


@functools.cache
def _classes_of_sentences() -> tuple[np.ndarray, np.ndarray]:
  return _ranges(_SENTENCES)


def _ranges(patterns: Mapping[int, str]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the first code points of ranges, ascending, and the class of each: int32 [R] both."""
  codes = np.concatenate([np.arange(0xD800), np.arange(0xE000, 0x110000)]).astype(np.int32)
  every = "".join(map(chr, codes.tolist()))
  classes = np.full(len(codes), _OTHER, np.int32)
  for value, pattern in reversed(list(patterns.items())):
    for match in regex.finditer(f"{pattern}+", every, regex.V1):
      classes[match.start() : match.end()] = value
  firsts = np.flatnonzero(np.diff(classes, prepend=-1))
  return codes[firsts], classes[firsts]


def _pieces(ids: TokenIds) -> list[bytes]:
  """Returns the text of each id, [V]: a line end for EOS, NUL for special tokens and sentinels."""
  pieces = ids.visible_bytes()
  for i in ids.marks():
    pieces[i] = b"\0"
  if ids.unk_id is not None:
    pieces[ids.unk_id] = "\ufffd".encode()
  pieces[ids.eos_id] = b"\n"
  if not ids.codec.keeps_text:
    # WordPiece puts a space before every token that does not continue a word. Whether the text had
    # one before a sentence terminal or a closing bracket is not known; usually it has none.
    closes = regex.compile(r" ([\p{Sentence_Terminal}\p{Pe}\p{Pf}]+)", regex.V1)
    pieces = [
      piece[1:] if closes.fullmatch(piece.decode(errors="replace")) else piece for piece in pieces
    ]
  return [piece or b"\0" for piece in pieces]
