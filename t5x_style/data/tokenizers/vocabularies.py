"""Vocabularies: SentencePiece and bytes, their special tokens and sentinels, what ids stand for.

Those of Hugging Face are in t5x_style.data.tokenizers.huggingface_tokenizers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from sentencepiece import sentencepiece_model_pb2

from t5x_style.data.tokenizers import sentencepiece_models
from t5x_style.errors import UserError
from t5x_style.ranges import SentinelCount, Text

SHIPPED = Path(__file__).parent / "vocabulary_files"
# What the objectives call upon beside padding, EOS and UNK; launch.tokenizer adds them to a model.
SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[MASK]", "[R]", "[S]", "[X]", "[PRE]", "[MID]", "[SUF]")

# Pieces of these names stand for no text, even where a model's author defined them as symbols.
_RESERVED = (*SPECIAL_TOKENS, "[NLU]", "[NLG]", "[S2S]")

_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece
_SPACE = "\u2581"  # how most models write a space
# Pieces that models of others define by hand and that stand for no text.
_MARKUP = re.compile(r"\[[A-Za-z0-9_]+\]|<[^<>\s]+>")


class _SpecialsFromExtraIds(seqio.Vocabulary):
  """Gives special tokens to the low end of the extra ids: the sentinels that are used last.

  `extra_ids` counts the sentinels that are left; sentinel k is still vocab_size - 1 - k.
  """

  borrowed: tuple[str, ...] = ()

  @property
  def extra_ids(self) -> int:
    return self._extra_ids - len(self.borrowed)

  def _borrow(self, tokens: Sequence[str]) -> None:
    if isinstance(tokens, str):
      raise UserError(
        f"specials_from_extra_ids = {tokens!r} is one text; write a tuple: ({tokens!r},)."
      )
    if len(tokens) > self._extra_ids:
      raise UserError(
        f"specials_from_extra_ids = {tuple(tokens)} takes {len(tokens)} extra ids, but there are "
        f"{self._extra_ids}; raise extra_ids (EXTRA_IDS in the gin files)."
      )
    self.borrowed = tuple(tokens)


class SelfDescribing(_SpecialsFromExtraIds):
  """A vocabulary of another library, which tells itself what its ids are.

  Attributes:
    name: for messages.
    named_tokens: {name: id} of the special tokens that objectives may ask for.
    special_marks: {id: how it is shown} of ids that stand for no text, but for the extra ids.
    piece_bytes: [V], what each id stands for.
  """

  name: str
  named_tokens: dict[str, int]
  special_marks: dict[int, str]
  piece_bytes: list[bytes]

  def facts(self) -> dict[str, Any]:
    """What makes it the same vocabulary, as JSON."""
    raise NotImplementedError


class SentencePieceVocabulary(_SpecialsFromExtraIds, seqio.SentencePieceVocabulary):
  """SeqIO's, with special tokens from the extra ids where the model has none.

  In SeqIO's a text " <extra_id_0>" is the sentinel; here no text becomes a sentinel or one of the
  special tokens of the objectives. Where the last pieces of the model are sentinels, as mT5's are
  (Xue et al. 2020), they are the extra ids, and none are appended.
  """

  _model: Any

  def __init__(self, file: str, extra_ids: int):
    own = sentencepiece_models.own_sentinels(_read(file))
    if own and extra_ids:
      raise UserError(
        f"the vocabulary {file} has {own} sentinels of its own, <extra_id_0> to <extra_id_{own - 1}"
        ">: set EXTRA_IDS = 0."
      )
    self._appended = extra_ids
    super().__init__(file, own or extra_ids)

  def _model_context(self) -> Any:
    if not self._model:
      content = _read(self._sentencepiece_model_file)
      self._model = sentencepiece_models.load(content, self._appended, _RESERVED)
    return self._model


class ByteVocabulary(_SpecialsFromExtraIds, seqio.ByteVocabulary):
  """SeqIO's (ByT5, Xue et al. 2021), with special tokens from the extra ids."""

  @property
  def vocab_size(self) -> int:
    return self._base_vocab_size + self._extra_ids

  def __eq__(self, other: object) -> bool:
    return isinstance(other, ByteVocabulary) and self.__dict__ == other.__dict__

  __hash__ = None  # type: ignore[assignment]


def sentencepiece(
  path: Text = "python_stdlib.model",
  extra_ids: SentinelCount = 128,
  specials_from_extra_ids: Sequence[Text] = (),
) -> SentencePieceVocabulary:
  """A SentencePiece vocabulary; ids are those of the file, the extra ids follow.

  Args:
    path: a file, also gs://..., or the bare name of one that comes with the package.
    extra_ids: sentinels after the file's ids; sentinel k is vocab_size - 1 - k. 0 where the file
      has sentinels of its own.
    specials_from_extra_ids: special tokens the file lacks, e.g. ("[MASK]",). The first takes the
      lowest extra id, and so on; as many sentinels fewer are left. Other names may be given too.

  Raises:
    UserError: there is no such file, or it is not a SentencePiece model, or padding, EOS and UNK
      are not 0, 1 and 2, or it has sentinels of its own and `extra_ids` is not 0.
  """
  file = _find(path)
  sentencepiece_models.check(file, _read(file))
  vocabulary = SentencePieceVocabulary(file, extra_ids)
  vocabulary._borrow(specials_from_extra_ids)
  return vocabulary


def byte_vocabulary(
  extra_ids: SentinelCount = 128, specials_from_extra_ids: Sequence[Text] = ()
) -> ByteVocabulary:
  """UTF-8 bytes as ids 3 to 258. Its special tokens can only come from the extra ids."""
  vocabulary = ByteVocabulary(extra_ids)
  vocabulary._borrow(specials_from_extra_ids)
  return vocabulary


def special_id(vocabulary: seqio.Vocabulary, token: str) -> int:
  """The id of a special token such as "[MASK]".

  Only what the model declares to be special counts: an ordinary piece that happens to be spelt
  the same would come out of the text as well.

  Raises:
    UserError: the vocabulary has no such special token.
  """
  borrowed = getattr(vocabulary, "borrowed", ())
  if token in borrowed:
    return vocabulary.vocab_size - vocabulary.extra_ids - len(borrowed) + borrowed.index(token)
  if isinstance(vocabulary, SelfDescribing):
    if token in vocabulary.named_tokens:
      return vocabulary.named_tokens[token]
    raise UserError(
      f"the tokenizer {vocabulary.name} has no special token {token!r}. Say which token it is, "
      f"SPECIAL_TOKENS = {{{token!r}: '...'}}, or append it: huggingface_tokenizers.hf_tokenizer."
      f"specials_from_extra_ids = {(*borrowed, token)!r} and EXTRA_IDS = {len(borrowed) + 1} or "
      "more in the gin file."
    )
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    pieces = _model(vocabulary).pieces
    for i, piece in enumerate(pieces[: len(pieces) - vocabulary._extra_ids]):
      if piece.piece == token and piece.type in (_PIECE.CONTROL, _PIECE.USER_DEFINED):
        return i
  function = "byte_vocabulary" if isinstance(vocabulary, seqio.ByteVocabulary) else "sentencepiece"
  raise UserError(
    f"the vocabulary {_name(vocabulary)} has no special token {token!r}. Use the shipped "
    "python_stdlib.model (VOCABULARY_FILE), train a vocabulary with `python -m launch.tokenizer`, "
    "which adds it, or take it from the extra ids: vocabularies."
    f"{function}.specials_from_extra_ids = {(*borrowed, token)!r} in the gin file."
  )


def sentinel_id(vocabulary: seqio.Vocabulary, k: int) -> int:
  """The id of sentinel k, <extra_id_k>: vocab_size - 1 - k, as in T5."""
  if not 0 <= k < vocabulary.extra_ids:
    raise UserError(
      f"<extra_id_{k}> does not exist: the vocabulary {_name(vocabulary)} has "
      f"{vocabulary.extra_ids} sentinels; raise extra_ids (EXTRA_IDS in the gin files)."
    )
  return vocabulary.vocab_size - 1 - k


def sentinel_ids(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """The ids of all sentinels, int32 [extra_ids], in order: [8319, 8318, ...]."""
  return vocabulary.vocab_size - 1 - np.arange(vocabulary.extra_ids, dtype=np.int32)


def token_bytes(vocabulary: seqio.Vocabulary) -> np.ndarray:
  """How many UTF-8 bytes of text each id stands for, int32 [V].

  Zero for padding, EOS, UNK, special tokens and sentinels. For models that put a space in front
  of the text (T5's own) the first token of a document counts that space as well.
  """
  special = marks(vocabulary)
  sizes = [0 if i in special else len(b) for i, b in enumerate(id_bytes(vocabulary))]
  return np.array(sizes, np.int32)


def decode_visible(vocabulary: seqio.Vocabulary, ids: Iterable[int]) -> str:
  """The text of `ids` with nothing hidden but padding: "def <extra_id_0>(x):</s>", "a [MASK] b".

  SeqIO's decode stops at EOS, says ⁇ for sentinels or drops them, and drops special tokens. Bytes
  that are no UTF-8, as in the middle of a character, show as U+FFFD.
  """
  table = id_bytes(vocabulary)
  unknown = b"<unk>"
  parts = [table[i] if i < len(table) else unknown for i in map(int, ids) if i > 0]
  return b"".join(parts).decode("utf-8", errors="replace")


def encode_visible(vocabulary: seqio.Vocabulary, text: str) -> list[int]:
  """The ids of a text written as `decode_visible` shows it; for prompts, never for training text.

  Documents that mention "[MASK]" or "<extra_id_0>" are encoded as the letters they are; here these
  mean the special token and the sentinel.
  """
  names = {mark: i for i, mark in marks(vocabulary).items() if mark}
  pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
  ids: list[int] = []
  for part in re.split(f"({pattern})", text):
    if part:
      ids += [names[part]] if part in names else vocabulary.encode(part)
  return ids


def marks(vocabulary: seqio.Vocabulary) -> dict[int, str]:
  """{id: how it is shown} of the ids that stand for no text; padding is shown as nothing."""
  found = {0: "", 1: "</s>", 2: "<unk>"}
  if isinstance(vocabulary, SelfDescribing):
    found = dict(vocabulary.special_marks)
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    special = (_PIECE.CONTROL, _PIECE.UNKNOWN, _PIECE.UNUSED)
    for i, piece in enumerate(_model(vocabulary).pieces):
      named = piece.type == _PIECE.USER_DEFINED and _MARKUP.fullmatch(piece.piece.strip(_SPACE))
      if i > 2 and (piece.type in special or named):
        found[i] = piece.piece
  first = vocabulary.vocab_size - vocabulary.extra_ids - len(getattr(vocabulary, "borrowed", ()))
  found |= {first + i: token for i, token in enumerate(getattr(vocabulary, "borrowed", ()))}
  return found | {int(i): f"<extra_id_{k}>" for k, i in enumerate(sentinel_ids(vocabulary))}


def describe(vocabulary: seqio.Vocabulary) -> dict[str, Any]:
  """What makes it the same vocabulary, for the identity of a run; the file may have moved."""
  facts: dict[str, Any] = {
    "name": _name(vocabulary),
    "vocab_size": vocabulary.vocab_size,
    "extra_ids": vocabulary.extra_ids,
    "specials_from_extra_ids": list(getattr(vocabulary, "borrowed", ())),
  }
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    content = _read(vocabulary.sentencepiece_model_file)
    facts["sha256"] = hashlib.sha256(content).hexdigest()
  if isinstance(vocabulary, SelfDescribing):
    facts |= vocabulary.facts()
  return facts


def _find(path: str) -> str:
  shipped = SHIPPED / path
  if "/" not in path and shipped.is_file():
    return str(shipped)
  file = os.path.expanduser(path)
  names = sorted(p.name for p in SHIPPED.glob("*.model"))
  try:
    found = tf.io.gfile.exists(file) and not tf.io.gfile.isdir(file)
    reason = ""
  except (tf.errors.OpError, OSError) as error:
    found, reason = False, f" ({error})"
  if not found:
    raise UserError(
      f"there is no vocabulary file {path!r}{reason}. Set VOCABULARY_FILE to a SentencePiece "
      f"model, to the name of a shipped one ({', '.join(names)}), or train one on your text with "
      "`python -m launch.tokenizer`."
    )
  return file


def _read(file: str) -> bytes:
  with tf.io.gfile.GFile(file, "rb") as f:
    return f.read()


def _model(vocabulary: seqio.SentencePieceVocabulary) -> sentencepiece_model_pb2.ModelProto:
  return sentencepiece_models.parse(vocabulary.sp_model)


def _name(vocabulary: seqio.Vocabulary) -> str:
  if isinstance(vocabulary, SelfDescribing):
    return os.path.basename(vocabulary.name)
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return os.path.basename(vocabulary.sentencepiece_model_file)
  return "bytes" if isinstance(vocabulary, seqio.ByteVocabulary) else type(vocabulary).__name__


def id_bytes(vocabulary: seqio.Vocabulary) -> list[bytes]:
  """What each id is shown as, [V]."""
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    table = [
      bytes([int(p.piece[1:-1], 16)])
      if p.type == _PIECE.BYTE
      else p.piece.replace(_SPACE, " ").encode()
      for p in _model(vocabulary).pieces
    ]
  elif isinstance(vocabulary, seqio.ByteVocabulary):
    table = [b"", b"", b"", *(bytes([i]) for i in range(256))]
    table += [b""] * (vocabulary.vocab_size - len(table))
  elif isinstance(vocabulary, SelfDescribing):
    table = list(vocabulary.piece_bytes)
  else:
    raise UserError(
      f"what the ids of a {type(vocabulary).__name__} stand for is not known; use a SentencePiece, "
      "byte or Hugging Face vocabulary."
    )
  for i, mark in marks(vocabulary).items():
    table[i] = mark.encode()
  return table
