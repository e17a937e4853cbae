"""SentencePiece models as codecs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from t5x_style.codecs import sentencepiece_models
from t5x_style.codecs.byte_codec import advice
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.sentinels import SPACE

_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece
# Symbols of this form stand for no text, even where a model's author defined them by hand.
_MARKUP = re.compile(r"\[[A-Za-z0-9_]+\]|<[^<>\s]+>")


class SentencePieceCodec(TextCodec):
  """The ids of a SentencePiece model, then `extra_ids`; see TextCodec.

  A run reads its text with TensorFlow Text, which holds an earlier release of SentencePiece. Where
  two ways to cut a text are equally likely, as in a long run of one character, the releases choose
  different ones ("====" + "==" or the reverse); anywhere else the ids are equal.

  Attributes:
    tokenizer: SentencePiece's processor.
    sp_model: the model as it is used, extra ids included.
  """

  kind = "sentencepiece"
  pad_id, start_id = 0, 0

  def __init__(
    self, model: sentencepiece_models.Model, name: str, extra_ids: int, borrowed: Sequence[str] = ()
  ):
    """Makes the codec of a model.

    Args:
      model: as sentencepiece_models.load or as_it_is returns it.
      name: of its file.
      extra_ids: how many of its last pieces are sentinels or `borrowed`.
      borrowed: special tokens that take the first of these.
    """
    self._model, self.name, self.borrowed = model, name, borrowed
    self.tokenizer: SentencePieceProcessor = model.tokenizer
    self.sp_model: bytes = model.sp_model
    self.vocab_size = self.tokenizer.GetPieceSize()
    self.eos_id, self.unknown_id = self.tokenizer.eos_id(), self.tokenizer.unk_id()
    self.extra_ids = np.arange(self.vocab_size - extra_ids, self.vocab_size, dtype=np.int32)

  def encode(self, text: str) -> list[int]:
    return self.tokenizer.EncodeAsIds(text)

  def _text(self, ids: Sequence[int]) -> str:
    return self.tokenizer.DecodeIds(list(ids))

  def _pieces_of_model(self) -> Sequence[Any]:
    return sentencepiece_models.parse(self.sp_model).pieces

  def _own_special_id(self, token: str) -> int | None:
    pieces = self._pieces_of_model()
    for i, piece in enumerate(pieces[: len(pieces) - len(self.extra_ids)]):
      if piece.piece == token and piece.type in (_PIECE.CONTROL, _PIECE.USER_DEFINED):
        return i
    return None

  def _advice(self, token: str) -> str:
    return advice("sentencepiece", (*self.borrowed, token))

  def _own_marks(self) -> dict[int, str]:
    found = {0: "", 1: "</s>", 2: "<unk>"}
    special = (_PIECE.CONTROL, _PIECE.UNKNOWN, _PIECE.UNUSED)
    for i, piece in enumerate(self._pieces_of_model()):
      named = piece.type == _PIECE.USER_DEFINED and _MARKUP.fullmatch(piece.piece.strip(SPACE))
      if i > 2 and (piece.type in special or named):
        found[i] = piece.piece
    return found

  def _piece_bytes(self) -> list[bytes]:
    return [
      bytes([int(p.piece[1:-1], 16)])
      if p.type == _PIECE.BYTE
      else p.piece.replace(SPACE, " ").encode()
      for p in self._pieces_of_model()
    ]

  def settings(self) -> Mapping[str, Any]:
    return {
      "appended": self._model.appended,
      "extra_ids": len(self.extra_ids),
      "specials_from_extra_ids": list(self.borrowed),
    }

  def file(self) -> tuple[str, bytes]:
    return "vocabulary.model", self._model.file
