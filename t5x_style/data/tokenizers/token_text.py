"""The text that token ids stand for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import seqio
from sentencepiece import sentencepiece_model_pb2

from t5x_style.data.tokenizers import sentencepiece_models
from t5x_style.data.tokenizers.base import ExternalVocabulary
from t5x_style.data.tokenizers.special_tokens import marks
from t5x_style.errors import UserError
from t5x_style.sentinels import SPACE

_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece


def id_bytes(vocabulary: seqio.Vocabulary) -> list[bytes]:
  """Returns the bytes that each id is shown as, [V]."""
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    table = [
      bytes([int(p.piece[1:-1], 16)])
      if p.type == _PIECE.BYTE
      else p.piece.replace(SPACE, " ").encode()
      for p in sentencepiece_models.parse(vocabulary.sp_model).pieces
    ]
  elif isinstance(vocabulary, seqio.ByteVocabulary):
    table = [b"", b"", b"", *(bytes([i]) for i in range(256))]
    table += [b""] * (vocabulary.vocab_size - len(table))
  elif isinstance(vocabulary, ExternalVocabulary):
    table = list(vocabulary.piece_bytes)
  else:
    raise UserError(
      f"what the ids of a {type(vocabulary).__name__} stand for is not known; use a SentencePiece, "
      "byte or Hugging Face vocabulary."
    )
  for i, mark in marks(vocabulary).items():
    table[i] = mark.encode()
  return table


def token_bytes(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """Returns how many UTF-8 bytes of text each id stands for, int32 [V].

  It is 0 for padding, EOS, UNK, special tokens and sentinels. Models that put a space in front of
  the text (T5's own) count it in the first token of a document.
  """
  special = marks(vocabulary)
  sizes = [0 if i in special else len(b) for i, b in enumerate(id_bytes(vocabulary))]
  return np.array(sizes, np.int32)


def ordinary_ids(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """Returns the ids that stand for text, int32 [K]: not padding, EOS, UNK, special or sentinel."""
  return np.flatnonzero(token_bytes(vocabulary) > 0).astype(np.int32)


def decode_visible(vocabulary: seqio.Vocabulary, ids: Iterable[int]) -> str:
  """Returns the text of `ids`, without padding only: "def <extra_id_0>(x):</s>", "a [MASK] b".

  SeqIO's decode stops at EOS, drops special tokens, and drops sentinels or shows ⁇ for them. Bytes
  that are not UTF-8, as in the middle of a character, are shown as U+FFFD.
  """
  table = id_bytes(vocabulary)
  unknown = b"<unk>"
  parts = [table[i] if i < len(table) else unknown for i in map(int, ids) if i > 0]
  return b"".join(parts).decode("utf-8", errors="replace")
