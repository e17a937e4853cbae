"""What rows of tokens spell: which tokens make up a word, and with which token a sentence ends.

A token may hold a part of a character only (a byte), or several words. So the tokens of a row are
put together again, words and sentences are found among the characters, as Unicode classifies them,
and the answer is given for the tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import regex
import seqio
import tensorflow as tf

from t5x_style.data.tokenizers import special_tokens, token_text

# Classes of characters. Of the patterns the first that matches decides; _OTHER is what none does.
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
  """All rows as one text of N characters, a NUL before each row; places are in bytes."""

  characters: tf.Tensor  # int32 [N]; bytes that are no UTF-8 are U+FFFD
  classes: tf.Tensor  # int32 [N]
  starts: tf.Tensor  # int32 [N]
  token_starts: tf.Tensor  # int32 [B L]
  token_ends: tf.Tensor  # int32 [B L]

  def where(self, kept: tf.Tensor) -> _Text:
    characters, classes, starts = (tf.boolean_mask(x, kept) for x in self[:3])
    return self._replace(characters=characters, classes=classes, starts=starts)


class WordsAndSentences:
  """The words and sentences of rows of a vocabulary's tokens."""

  def __init__(self, vocabulary: seqio.Vocabulary):
    pieces = _pieces(vocabulary)
    self._pieces = np.array(pieces, object)
    self._sizes = np.array([len(piece) for piece in pieces], np.int32)

  def word_ids(self, tokens: tf.Tensor) -> tf.Tensor:
    """Numbers the words of int32 [B, L] from 0; each character between words counts as one.

    A word is a run of letters, digits and underscores with their combining marks, and with
    apostrophes between letters (Unicode's UAX #29, without full stops and colons). As in BERT each
    ideograph is a word, and in other scripts without spaces (Thai, kana) all up to the next space
    or punctuation. Tokens are of one word where no word begins between them.
    """
    starts = _word_starts(self._read(tokens, _classes_of_words()))
    starts = tf.reshape(starts, tf.shape(tokens))[:, 1:]
    return tf.cumsum(tf.pad(tf.cast(starts, tf.int32), [[0, 0], [1, 0]]), axis=1)

  def sentence_ends(self, tokens: tf.Tensor) -> tf.Tensor:
    """Bool [B, L]: the tokens of int32 [B, L] with which a sentence or a line ends, EOS included.

    A sentence ends with a character that Unicode calls a Sentence_Terminal (. ? ! and those of
    other scripts), with the closing quotes and brackets after it, or with the line. A full stop
    must be followed by a space or the end of the line. Thai and Lao have no such character: only
    their lines end.
    """
    ends = _sentence_ends(self._read(tokens, _classes_of_sentences()))
    return tf.reshape(ends, tf.shape(tokens))

  def _read(self, tokens: tf.Tensor, table: tuple[np.ndarray, np.ndarray]) -> _Text:
    rows = tf.shape(tokens)[0]
    pieces = tf.gather(tf.constant(self._pieces, tf.string), tokens)
    text = tf.strings.reduce_join(tf.concat([tf.fill([rows, 1], "\0"), pieces], axis=1))
    characters, starts = tf.strings.unicode_decode_with_offsets(text, "UTF-8")
    firsts, classes = table
    found = tf.searchsorted(tf.constant(firsts), characters, side="right") - 1
    sizes = tf.pad(tf.gather(tf.constant(self._sizes), tokens), [[0, 0], [1, 0]], constant_values=1)
    ends = tf.reshape(tf.cumsum(tf.reshape(sizes, [-1])), tf.shape(sizes))
    return _Text(
      characters,
      tf.gather(tf.constant(classes), found),
      tf.cast(starts, tf.int32),
      tf.reshape(ends[:, :-1], [-1]),
      tf.reshape(ends[:, 1:], [-1]),
    )


def _word_starts(text: _Text) -> tf.Tensor:
  """Bool [B L]: whether a word, or a character between words, begins where a token does."""
  before = _moved(text.classes, 1, _APART)
  extends = text.classes == _EXTEND
  # With nothing before it that could carry it, a mark is as a letter.
  alone = extends & ((before == _APART) | (before == _LINE) | (before == _SPACE))
  text = text._replace(classes=tf.where(alone, _LETTER, text.classes))
  joined = (text.classes == _PICTURE) & (_moved(text.characters, 1, 0) == _ZERO_WIDTH_JOINER)
  whole = alone | ~extends
  joined = tf.boolean_mask(joined, whole)
  text = text.where(whole)

  before, after = _moved(text.classes, 1, _APART), _moved(text.classes, -1, _APART)
  apostrophe = (text.classes == _APOSTROPHE) & (before == _LETTER) & (after == _LETTER)
  word = (text.classes == _LETTER) | (text.classes == _NUMBER) | apostrophe
  joined |= (word & _moved(word, 1, False)) | ((text.classes == _FLAG) & (before == _FLAG))
  at = tf.searchsorted(text.starts, text.token_starts)
  # A token that begins inside a character, or with a mark, is of the same word as the one before.
  at = tf.minimum(at, tf.size(text.starts) - 1)
  return (tf.gather(text.starts, at) == text.token_starts) & ~tf.gather(joined, at)


def _sentence_ends(text: _Text) -> tf.Tensor:
  """Bool [B L]: whether what a token adds to the text ends a sentence; spaces may follow in it."""
  text = text.where(text.classes != _EXTEND)
  classes, after = text.classes, _moved(text.classes, -1, _APART)
  line, space = classes == _LINE, classes == _SPACE
  stop = (classes == _TERMINAL) | (classes == _FULL_STOP)
  # A quote that may open or close opens where text follows at once.
  closing = (classes == _CLOSING) | ((classes == _QUOTE) & (after != _OTHER))
  of = tf.gather(tf.boolean_mask(classes, ~closing), tf.cumsum(tf.cast(~closing, tf.int32)) - 1)
  ended = (of == _TERMINAL) | (
    (of == _FULL_STOP) & ((after == _SPACE) | (after == _LINE) | (after == _APART))
  )
  ended &= ~_moved(closing | stop, -1, False)
  # Of a stop and the line that ends with it, and of several empty lines, the last is the end.
  seen = tf.cumsum(tf.cast(~space, tf.int32))
  visible = tf.concat([tf.boolean_mask(classes, ~space), [_APART]], axis=0)
  ended = (ended | line) & ~space & (tf.gather(visible, seen) != _LINE)

  last = tf.searchsorted(text.starts, text.token_ends) - 1
  places = tf.boolean_mask(tf.range(tf.size(classes)), ~space)
  last = tf.gather(places, tf.gather(seen, last) - 1)  # the last in the token that is no space
  its_end = tf.gather(tf.concat([text.starts[1:], text.token_ends[-1:]], axis=0), last)
  complete = (its_end > text.token_starts) & (its_end <= text.token_ends)
  return tf.gather(ended, last) & complete


def _moved(values: tf.Tensor, by: int, fill: int | bool) -> tf.Tensor:
  """[N] -> [N]: of each place the value before it (1) or after it (-1), `fill` where none is."""
  end = tf.fill([1], tf.cast(fill, values.dtype))
  parts = [end, values[:-1]] if by == 1 else [values[1:], end]
  return tf.concat(parts, axis=0)


@functools.cache
def _classes_of_words() -> tuple[np.ndarray, np.ndarray]:
  return _ranges(_WORDS)


@functools.cache
def _classes_of_sentences() -> tuple[np.ndarray, np.ndarray]:
  return _ranges(_SENTENCES)


def _ranges(patterns: Mapping[int, str]) -> tuple[np.ndarray, np.ndarray]:
  """int32 [R] first code points of ranges, ascending, and int32 [R] the class of each."""
  codes = np.concatenate([np.arange(0xD800), np.arange(0xE000, 0x110000)]).astype(np.int32)
  every = "".join(map(chr, codes.tolist()))
  classes = np.full(len(codes), _OTHER, np.int32)
  for value, pattern in reversed(list(patterns.items())):
    for match in regex.finditer(f"{pattern}+", every, regex.V1):
      classes[match.start() : match.end()] = value
  firsts = np.flatnonzero(np.diff(classes, prepend=-1))
  return codes[firsts], classes[firsts]


def _pieces(vocabulary: seqio.Vocabulary) -> list[bytes]:
  """What each id adds to a row's text, [V]: EOS a line end, special tokens and sentinels a NUL."""
  pieces = token_text.id_bytes(vocabulary)
  for i in special_tokens.marks(vocabulary):
    pieces[i] = b"\0"
  if vocabulary.unk_id is not None:
    pieces[vocabulary.unk_id] = "\ufffd".encode()
  pieces[vocabulary.eos_id] = b"\n"
  if not getattr(vocabulary, "keeps_text", True):
    # These put a space before every token that does not continue a word: where the mark that ends a
    # sentence and a bracket after it had none cannot be known, but it is the rule.
    closes = regex.compile(r" ([\p{Sentence_Terminal}\p{Pe}\p{Pf}]+)", regex.V1)
    pieces = [
      piece[1:] if closes.fullmatch(piece.decode(errors="replace")) else piece for piece in pieces
    ]
  return [piece or b"\0" for piece in pieces]
