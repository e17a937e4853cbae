"""Hugging Face tokenizers (tokenizer.json) as codecs; the ids are the tokenizer's own numbers."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style.codecs import tokenizer_json
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.errors import UserError


class TokenizerJsonCodec(TextCodec):
  """The numbers of a tokenizer.json, then appended extra ids; see TextCodec.

  Attributes:
    tokenizer: a tokenizers.Tokenizer that finds no special tokens in text.
    content: of the file.
    special_tokens: {role: token or its number} that the file itself does not say.
    tokenizer_settings: the content of the file as JSON.
    byte_level: whether the tokens consist of bytes, as GPT-2's do.
    own_sentinels: whether the extra ids are the tokenizer's own sentinels.
    unknown_id: None also where the unknown token is EOS, as GPT-2's.
  """

  kind = "tokenizer_json"

  def __init__(
    self,
    content: str,
    name: str,
    special_tokens: Mapping[str, str | int],
    extra_ids: int = 0,
    borrowed: Sequence[str] = (),
  ):
    """Makes the codec of a tokenizer.json.

    Args:
      content: of the file.
      name: of the file, for messages.
      special_tokens: {"eos": token, "pad": ..., "start": ..., "[MASK]": ...}: what the files beside
        it or the user say; see tokenizer_json.declared_beside.
      extra_ids: how many to append, 0 if the tokenizer has sentinels of its own.
      borrowed: special tokens that take the first extra ids.

    Raises:
      UserError: the package tokenizers is not installed, the content is not a tokenizer, it cannot
        encode every text, or a token is unknown.
    """
    self.tokenizer, settings = tokenizer_json.load(content, name)
    self.content, self.name, self.tokenizer_settings = content, name, settings
    self.special_tokens, self.borrowed = dict(special_tokens), borrowed
    size = 1 + max(self.tokenizer.get_vocab(with_added_tokens=True).values())
    declared = tokenizer_json.SpecialTokens(self.tokenizer, settings, special_tokens, name)
    own = declared.sentinels()
    if own and extra_ids:
      raise UserError(
        f"the tokenizer {name} has {len(own)} sentinels of its own, <extra_id_0> and so on: set "
        "EXTRA_IDS = 0."
      )
    self.own_sentinels = bool(own)
    extra = [*reversed(own)] if own else [*range(size, size + extra_ids)]
    self.extra_ids = np.array(extra, np.int32)
    self.vocab_size = size + extra_ids
    pad, eos = declared.role("pad"), declared.role("eos")
    assert eos is not None  # It raises where there is none.
    self.eos_id = eos
    pad = None if pad == eos else pad  # A token that also ends documents cannot be padding.
    self.pad_id = -1 if pad is None else pad
    unknown = declared.unknown()
    self.unknown_id = None if unknown == self.eos_id else unknown
    start = declared.role("start")
    self.start_id = next(i for i in (start, pad, self.eos_id) if i is not None)
    self._named = declared.named()
    self._special = declared.special
    self.keeps_text = settings["model"]["type"] not in ("WordPiece", "WordLevel")
    self.byte_level = is_byte_level(settings)
    tokenizer_json.keep_out_of_text(self.tokenizer, declared.special)
    self._reserved = np.zeros(self.vocab_size, bool)
    self._reserved[list(declared.special)] = True

  def encode(self, text: str) -> list[int]:
    return self.encode_batch([text])[0].tolist()

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the int32 ids of each text, without special tokens around it or in it."""
    encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    rows = [np.array(e.ids, np.int32) for e in encoded]
    return [self._as_text(*both) for both in zip(rows, texts, strict=True)]

  def _as_text(self, row: np.ndarray, text: str) -> np.ndarray:
    """Returns the ids of a text, encoded again if `row` has special tokens.

    A special token that is written out in a text, "[MASK]", is ordinary letters.
    """
    reserved, unknown = self._reserved[row], self.unknown_id
    if not reserved.any() or (
      unknown is not None
      and (row[reserved] == unknown).all()
      and self._special[unknown] not in text
    ):
      return row
    row = np.array(self._careful.encode(text, add_special_tokens=False).ids, np.int32)
    # A special token of a single character has no other encoding.
    reserved = self._reserved[row] & (row != unknown)
    return row[~reserved] if unknown is None else np.where(reserved, unknown, row)

  @functools.cached_property
  def _careful(self) -> Any:
    """The tokenizer for texts in which special tokens are written out."""
    return tokenizer_json.without_literals(self.tokenizer, self._special.values())

  def _text(self, ids: Sequence[int]) -> str:
    shown = [i for i in ids if i != self.pad_id]
    if self.unknown_id is not None:
      extra = set(self.extra_ids.tolist())
      shown = [self.unknown_id if i in extra else i for i in shown]
    return self.tokenizer.decode(shown, skip_special_tokens=True)

  def _own_special_id(self, token: str) -> int | None:
    return self._named.get(token)

  def _described(self) -> str:
    return f"tokenizer {self.name}"

  def _advice(self, token: str) -> str:
    borrowed = (*self.borrowed, token)
    return (
      f"Say which token it is, SPECIAL_TOKENS = {{{token!r}: '...'}}, or append it: "
      f"huggingface_tokenizers.hf_tokenizer.specials_from_extra_ids = {borrowed!r} and EXTRA_IDS = "
      f"{len(borrowed)} or more in the gin file."
    )

  def _own_marks(self) -> dict[int, str]:
    found = {**self._special, self.eos_id: self.tokenizer.id_to_token(self.eos_id)}
    return found if self.pad_id < 0 else {**found, self.pad_id: ""}

  def _piece_bytes(self) -> list[bytes]:
    added = set(self.tokenizer.get_added_tokens_decoder())
    pieces = {i: p for p, i in self.tokenizer.get_vocab(with_added_tokens=True).items()}
    to_bytes = piece_reader(self.tokenizer_settings)
    table = []
    for i in range(self.vocab_size):
      piece = pieces.get(i, "")
      table.append(piece.encode() if i in added else to_bytes(piece))
    return table

  def settings(self) -> Mapping[str, Any]:
    return {
      "special_tokens": self.special_tokens,
      "extra_ids": 0 if self.own_sentinels else len(self.extra_ids),
      "specials_from_extra_ids": list(self.borrowed),
    }

  def file(self) -> tuple[str, bytes]:
    return "tokenizer.json", self.content.encode()


@functools.cache
def _byte_of() -> dict[str, int]:
  """Returns GPT-2's characters for bytes: printable bytes are themselves, others from U+0100 on."""
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [b for b in range(256) if b not in printable]
  return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def is_byte_level(settings: Mapping[str, Any]) -> bool:
  """Returns whether the tokens of a tokenizer.json consist of bytes."""
  steps = json.dumps([settings.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")])
  return '"type": "ByteLevel"' in steps


def piece_reader(settings: Mapping[str, Any]) -> Callable[[str], bytes]:
  """Returns a function from a token to its bytes; words of WordPiece get a space in front."""
  model = settings["model"]
  if model["type"] == "WordPiece":
    prefix = model.get("continuing_subword_prefix", "##")
    return lambda p: (p[len(prefix) :] if p.startswith(prefix) else f" {p}").encode()
  if is_byte_level(settings):
    table = _byte_of()
    return lambda p: b"".join(bytes([table[c]]) if c in table else c.encode() for c in p)

  def read(piece):
    if match := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
      return bytes([int(match[1], 16)])
    return piece.replace("\u2581", " ").replace("</w>", " ").encode()

  return read
