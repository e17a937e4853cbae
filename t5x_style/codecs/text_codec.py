"""TextCodec: text to the ids that a model gets, and back, for every kind of vocabulary."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from t5x_style.errors import UserError

_UNKNOWN = b"<unk>"  # how an id that the vocabulary does not have is shown


class TextCodec:
  """Text to the ids that a model gets, and back. A new kind of vocabulary subclasses it.

  Special tokens that a text spells out, such as "</s>" or "<extra_id_0>", are ordinary text.

  Attributes:
    kind: the name of the kind in vocabulary.json.
    name: of the vocabulary, for messages.
    vocab_size: how many ids there are, extra ids included; a model may have more rows.
    pad_id: -1 if the vocabulary has no padding.
    eos_id: ends a document.
    start_id: the first token that a decoder reads.
    unknown_id: None if every text can be spelt.
    extra_ids: int32 [E]: the ids after those of the file, of which the last one is sentinel 0. The
      first ones may be `borrowed` for special tokens.
    borrowed: the special tokens that take the first extra ids.
    keeps_text: whether decoding gives back the exact text, spaces included.
  """

  kind: ClassVar[str]
  name: str
  vocab_size: int
  pad_id: int
  eos_id: int
  start_id: int
  unknown_id: int | None
  extra_ids: np.ndarray
  borrowed: Sequence[str] = ()
  keeps_text: bool = True

  def encode(self, text: str) -> list[int]:
    """Returns the ids of a text, without a start token and EOS."""
    raise NotImplementedError

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of ids up to the first EOS, without special tokens and sentinels."""
    known, unknown = [], self.unknown_id
    for i in map(int, ids):
      if i == self.eos_id:
        break
      if 0 <= i < self.vocab_size:
        known.append(i)
      elif unknown is not None and i >= 0:
        known.append(unknown)
    return self._text(known)

  def _text(self, ids: Sequence[int]) -> str:
    """Returns the text of ids that the vocabulary has, EOS not among them."""
    raise NotImplementedError

  def decode_visible(self, ids: Iterable[int]) -> str:
    """Returns all the text of `ids` but padding: "def <extra_id_0>(x):</s>", "a [MASK] b".

    Bytes that are not UTF-8, as in the middle of a character, are shown as U+FFFD.
    """
    table = self.visible_bytes
    shown = [i for i in map(int, ids) if i >= 0 and i != self.pad_id]
    parts = [table[i] if i < len(table) else _UNKNOWN for i in shown]
    return b"".join(parts).decode("utf-8", errors="replace")

  def pieces(self, ids: Iterable[int]) -> list[str]:
    """Returns what each id is shown as, special tokens and sentinels too; padding is ""."""
    return [self.decode_visible([i]) for i in ids]

  def special_id(self, token: str) -> int:
    """Returns the id of a special token such as "[MASK]".

    The vocabulary has to declare it special: an ordinary piece of that name also occurs in texts.

    Raises:
      UserError: the vocabulary has no such special token.
    """
    if token in self.borrowed:
      return int(self.extra_ids[list(self.borrowed).index(token)])
    found = self._own_special_id(token)
    if found is None:
      raise UserError(
        f"the {self._described()} has no special token {token!r}. {self._advice(token)}"
      )
    return found

  def _own_special_id(self, token: str) -> int | None:
    """Returns the id of a special token of the file; None if it has none of this name."""
    raise NotImplementedError

  def _described(self) -> str:
    return f"vocabulary {self.name}"

  def _advice(self, token: str) -> str:
    """Says how a vocabulary with the special token `token` is made."""
    raise NotImplementedError

  @property
  def sentinel_ids(self) -> np.ndarray:
    """Returns the ids of all sentinels in order, int32 [S]: [8319, 8318, ...]."""
    return self.extra_ids[len(self.borrowed) :][::-1]

  @functools.cached_property
  def marks(self) -> dict[int, str]:
    """{id: how it is shown} for the ids that stand for no text; padding is shown as ""."""
    marks = self._own_marks()
    marks |= {int(self.extra_ids[k]): token for k, token in enumerate(self.borrowed)}
    return marks | {int(i): f"<extra_id_{k}>" for k, i in enumerate(self.sentinel_ids)}

  def _own_marks(self) -> dict[int, str]:
    """Returns the marks of the ids that are no extra ids."""
    raise NotImplementedError

  def _piece_bytes(self) -> list[bytes]:
    """Returns the text that each id stands for, [V]; what it is for special tokens is ignored."""
    raise NotImplementedError

  @functools.cached_property
  def visible_bytes(self) -> list[bytes]:
    """The bytes that each id is shown as, [V]."""
    table = self._piece_bytes()
    for i, mark in self.marks.items():
      table[i] = mark.encode()
    return table

  @functools.cached_property
  def text_bytes(self) -> np.ndarray:
    """How many UTF-8 bytes of text each id stands for, int32 [V].

    It is 0 for padding, EOS, UNK, special tokens and sentinels. Models that put a space in front of
    the text (T5's own) count it in the first token of a document.
    """
    sizes = [0 if i in self.marks else len(b) for i, b in enumerate(self.visible_bytes)]
    return np.array(sizes, np.int32)

  @property
  def token_bytes(self) -> np.ndarray | None:
    """`text_bytes` if the tokens of a text have its bytes; None if they do not keep the text."""
    return self.text_bytes if self.keeps_text else None

  def settings(self) -> Mapping[str, Any]:
    """Returns JSON from which, with the file, an equal codec is made."""
    raise NotImplementedError

  def file(self) -> tuple[str, bytes] | None:
    """Returns the name and the content of the vocabulary's file; None if it has none."""
    raise NotImplementedError
