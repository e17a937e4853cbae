"""Bytes as a vocabulary: the ids of UTF-8 bytes are 3 to 258 (ByT5, Xue et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style.codecs.text_codec import TextCodec

_FIRST = 3  # after padding, EOS and UNK
_END = _FIRST + 256


class ByteCodec(TextCodec):
  """UTF-8 bytes, then `extra_ids` further ids; see TextCodec."""

  kind = "bytes"
  name = "bytes"
  pad_id, eos_id, unknown_id, start_id = 0, 1, 2, 0

  def __init__(self, extra_ids: int, borrowed: Sequence[str] = ()):
    self.extra_ids = np.arange(_END, _END + extra_ids, dtype=np.int32)
    self.vocab_size = _END + extra_ids
    self.borrowed = borrowed

  def encode(self, text: str) -> list[int]:
    return [_FIRST + byte for byte in text.encode()]

  def _text(self, ids: Sequence[int]) -> str:
    return bytes(i - _FIRST for i in ids if _FIRST <= i < _END).decode(errors="ignore")

  def _own_special_id(self, token: str) -> int | None:
    return None

  def _advice(self, token: str) -> str:
    return advice("byte_vocabulary", (*self.borrowed, token))

  def _own_marks(self) -> dict[int, str]:
    return {0: "", 1: "</s>", 2: "<unk>"}

  def _piece_bytes(self) -> list[bytes]:
    table = [b""] * _FIRST + [bytes([i]) for i in range(256)]
    return table + [b""] * len(self.extra_ids)

  def settings(self) -> Mapping[str, Any]:
    return {"extra_ids": len(self.extra_ids), "specials_from_extra_ids": list(self.borrowed)}

  def file(self) -> None:
    return None


def advice(function: str, specials: Sequence[str]) -> str:
  """Says how a vocabulary of `vocabularies.FUNCTION` with these special tokens is made."""
  return (
    "Use the shipped python_stdlib.model (VOCABULARY_FILE), train a vocabulary with `python -m "
    "launch.tokenizer`, which adds it, or take it from the extra ids: vocabularies."
    f"{function}.specials_from_extra_ids = {tuple(specials)!r} in the gin file."
  )
