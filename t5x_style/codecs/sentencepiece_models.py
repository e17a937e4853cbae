"""Loads SentencePiece models so that no text becomes one of their special pieces."""

from __future__ import annotations

import functools
import threading
from typing import NamedTuple

from google.protobuf.message import DecodeError
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from t5x_style import sentinels
from t5x_style.errors import UserError
from t5x_style.sentinels import SPACE

# Tokens of objectives besides padding, EOS and UNK; launch.tokenizer adds them to a model.
SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[MASK]", "[R]", "[S]", "[X]", "[PRE]", "[MID]", "[SUF]")
# Pieces of these names stand for no text, even where a model's author defined them as symbols.
_RESERVED = (*SPECIAL_TOKENS, "[NLU]", "[NLG]", "[S2S]")
_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece
_LOADING = threading.Lock()  # SentencePiece must not load models on several threads at once.


@functools.lru_cache(maxsize=4)
def parse(content: bytes) -> sentencepiece_model_pb2.ModelProto:
  """Returns the protocol buffer of a model file's content; callers must not change it."""
  return sentencepiece_model_pb2.ModelProto.FromString(content)


def check(file: str, content: bytes) -> None:
  """Raises UserError unless the content of the file is a model that can be used."""
  try:
    model = sentencepiece_model_pb2.ModelProto.FromString(content)
  except DecodeError:
    model = sentencepiece_model_pb2.ModelProto()
  if not model.pieces:
    raise UserError(
      f"the vocabulary file {file} ({len(content)} bytes) is not a SentencePiece model. Set "
      "VOCABULARY_FILE to a .model file, not to a .vocab or tokenizer.json beside it."
    )
  spec = model.trainer_spec
  if spec.model_type == spec.WORD:
    raise UserError(
      f"the vocabulary file {file} is a SentencePiece model of whole words (model_type=word), "
      'which fails at a text with a special token in it, such as "</s>". Train one of pieces with '
      "`python -m launch.tokenizer`, or with SentencePiece's --model_type=unigram or bpe."
    )
  wanted = (("padding", spec.pad_piece, 0), ("EOS", spec.eos_piece, 1), ("UNK", spec.unk_piece, 2))
  places = {piece.piece: i for i, piece in enumerate(model.pieces)}
  wrong = [
    f"{what} ({piece}) is {places.get(piece, 'absent')} instead of {i}"
    for what, piece, i in wanted
    if places.get(piece) != i
  ]
  if wrong:
    raise UserError(
      f"in the vocabulary file {file} {', '.join(wrong)}. The convention here is T5's: padding 0, "
      "EOS 1, UNK 2. Train one with `python -m launch.tokenizer`, or with SentencePiece's options "
      "--pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1."
    )


def own_sentinels(content: bytes) -> int:
  """Returns how many sentinels a model ends with: "<extra_id_1>", "<extra_id_0>" are two."""
  return sentinels.own_sentinels(piece.piece for piece in reversed(parse(content).pieces))


class Model(NamedTuple):
  """A model that is ready to encode, and the file it was made from."""

  tokenizer: SentencePieceProcessor
  sp_model: bytes  # as it is used, with the appended sentinels
  file: bytes  # the content of the file
  appended: int | None  # how many sentinels; None if the file is used as it is


def load(content: bytes, appended: int | None) -> Model:
  """Loads a model, appends sentinels, and makes its special pieces occur in no text.

  Args:
    content: of the file.
    appended: how many sentinels; sentinel 0 is the last piece. None uses the model as it is.
  """
  with _LOADING:
    return _load(content, appended)


@functools.lru_cache(maxsize=4)
def _load(content: bytes, appended: int | None) -> Model:
  if appended is None:
    return Model(SentencePieceProcessor(model_proto=content), content, content, None)
  model = sentencepiece_model_pb2.ModelProto.FromString(content)
  for k in reversed(range(appended)):
    model.pieces.add(piece=f"{SPACE}<extra_id_{k}>", score=0.0, type=_PIECE.USER_DEFINED)
  count = appended or own_sentinels(content)
  for piece in model.pieces:
    if piece.type == _PIECE.USER_DEFINED and piece.piece.strip(SPACE) in _RESERVED:
      piece.type = _PIECE.CONTROL
  for piece in model.pieces[len(model.pieces) - count :]:
    piece.type = _PIECE.CONTROL
  serialized = model.SerializeToString(deterministic=True)
  tokenizer = SentencePieceProcessor(model_proto=serialized)
  return Model(tokenizer, serialized, content, appended)


def byte_pieces(content: bytes) -> int:
  """Returns for how many of the 256 bytes a model has a piece."""
  return sum(piece.type == _PIECE.BYTE for piece in parse(content).pieces)
