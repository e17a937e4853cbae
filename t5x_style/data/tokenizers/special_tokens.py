"""Special tokens and sentinels: the ids that stand for no text."""

from __future__ import annotations

import re

import numpy as np
import seqio
from sentencepiece import sentencepiece_model_pb2

from t5x_style.data.tokenizers import sentencepiece_models
from t5x_style.data.tokenizers.base import ExternalVocabulary, name_of
from t5x_style.errors import UserError
from t5x_style.sentinels import SPACE

# Tokens of objectives besides padding, EOS and UNK; launch.tokenizer adds them to a model.
SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[MASK]", "[R]", "[S]", "[X]", "[PRE]", "[MID]", "[SUF]")

_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece
# Symbols of this form stand for no text, even where a model's author defined them by hand.
_MARKUP = re.compile(r"\[[A-Za-z0-9_]+\]|<[^<>\s]+>")


def special_id(vocabulary: seqio.Vocabulary, token: str) -> int:
  """Returns the id of a special token such as "[MASK]".

  The model has to declare it special: an ordinary piece of that name would also occur in texts.

  Raises:
    UserError: the vocabulary has no such special token.
  """
  borrowed = getattr(vocabulary, "borrowed", ())
  if token in borrowed:
    return vocabulary.vocab_size - vocabulary.extra_ids - len(borrowed) + borrowed.index(token)
  if isinstance(vocabulary, ExternalVocabulary):
    if token in vocabulary.named_tokens:
      return vocabulary.named_tokens[token]
    raise UserError(
      f"the tokenizer {vocabulary.name} has no special token {token!r}. Say which token it is, "
      f"SPECIAL_TOKENS = {{{token!r}: '...'}}, or append it: huggingface_tokenizers.hf_tokenizer."
      f"specials_from_extra_ids = {(*borrowed, token)!r} and EXTRA_IDS = {len(borrowed) + 1} or "
      "more in the gin file."
    )
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    pieces = sentencepiece_models.parse(vocabulary.sp_model).pieces
    for i, piece in enumerate(pieces[: len(pieces) - vocabulary._extra_ids]):
      if piece.piece == token and piece.type in (_PIECE.CONTROL, _PIECE.USER_DEFINED):
        return i
  function = "byte_vocabulary" if isinstance(vocabulary, seqio.ByteVocabulary) else "sentencepiece"
  raise UserError(
    f"the vocabulary {name_of(vocabulary)} has no special token {token!r}. Use the shipped "
    "python_stdlib.model (VOCABULARY_FILE), train a vocabulary with `python -m launch.tokenizer`, "
    "which adds it, or take it from the extra ids: vocabularies."
    f"{function}.specials_from_extra_ids = {(*borrowed, token)!r} in the gin file."
  )


def sentinel_ids(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """Returns the ids of all sentinels in order, int32 [extra_ids]: [8319, 8318, ...]."""
  return vocabulary.vocab_size - 1 - np.arange(vocabulary.extra_ids, dtype=np.int32)


def marks(vocabulary: seqio.Vocabulary) -> dict[int, str]:
  """Returns {id: how it is shown} for the ids that stand for no text; padding is shown as ""."""
  found = {0: "", 1: "</s>", 2: "<unk>"}
  if isinstance(vocabulary, ExternalVocabulary):
    found = dict(vocabulary.special_marks)
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    special = (_PIECE.CONTROL, _PIECE.UNKNOWN, _PIECE.UNUSED)
    for i, piece in enumerate(sentencepiece_models.parse(vocabulary.sp_model).pieces):
      named = piece.type == _PIECE.USER_DEFINED and _MARKUP.fullmatch(piece.piece.strip(SPACE))
      if i > 2 and (piece.type in special or named):
        found[i] = piece.piece
  first = vocabulary.vocab_size - vocabulary.extra_ids - len(getattr(vocabulary, "borrowed", ()))
  found |= {first + i: token for i, token in enumerate(getattr(vocabulary, "borrowed", ()))}
  return found | {int(i): f"<extra_id_{k}>" for k, i in enumerate(sentinel_ids(vocabulary))}
