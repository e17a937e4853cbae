"""SentencePiece and byte vocabularies, as gin binds them.

Hugging Face's tokenizers are in huggingface_tokenizers.py.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import seqio
import tensorflow as tf

from t5x_style.codecs import sentencepiece_models
from t5x_style.data.tokenizers.base import ExternalVocabulary, SpecialsFromExtraIds, name_of
from t5x_style.errors import UserError
from t5x_style.setting_types import SentinelCount, Text
from t5x_style.shipped_vocabulary import (
  DEFAULT_EXTRA_IDS,
  DEFAULT_VOCABULARY_FILE,
  VOCABULARY_FOLDER,
)


class SentencePieceVocabulary(SpecialsFromExtraIds, seqio.SentencePieceVocabulary):
  """SeqIO's SentencePiece vocabulary; extra ids can be special tokens that the model lacks.

  In SeqIO's the text " <extra_id_0>" is a sentinel; here no text becomes a sentinel or a special
  token of the objectives. Where the last pieces of the model are sentinels, as in mT5 (Xue et al.
  2020), they are the extra ids, and none are appended.
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
      self._model = sentencepiece_models.load(content, self._appended)
    return self._model


class ByteVocabulary(SpecialsFromExtraIds, seqio.ByteVocabulary):
  """SeqIO's byte vocabulary (ByT5, Xue et al. 2021); extra ids can be special tokens."""

  @property
  def vocab_size(self) -> int:
    return self._base_vocab_size + self._extra_ids

  def __eq__(self, other: object) -> bool:
    return isinstance(other, ByteVocabulary) and self.__dict__ == other.__dict__

  __hash__ = None  # type: ignore[assignment]


def sentencepiece(
  path: Text = DEFAULT_VOCABULARY_FILE,
  extra_ids: SentinelCount = DEFAULT_EXTRA_IDS,
  specials_from_extra_ids: Sequence[Text] = (),
) -> SentencePieceVocabulary:
  """Returns a SentencePiece vocabulary: the ids of the file, then the extra ids.

  Args:
    path: a file, also gs://..., or the name of one that comes with the package.
    extra_ids: sentinels after the file's ids; sentinel k is vocab_size - 1 - k. 0 where the file
      has its own sentinels.
    specials_from_extra_ids: special tokens that the file lacks, of any name, e.g. ("[MASK]",). They
      take the lowest extra ids, and so many sentinels less are left.

  Raises:
    UserError: the file does not exist or is not a SentencePiece model, padding, EOS and UNK are not
      0, 1 and 2, or it has its own sentinels and `extra_ids` is not 0.
  """
  file = _find(path)
  sentencepiece_models.check(file, _read(file))
  vocabulary = SentencePieceVocabulary(file, extra_ids)
  vocabulary.borrow(specials_from_extra_ids)
  return vocabulary


def byte_vocabulary(
  extra_ids: SentinelCount = DEFAULT_EXTRA_IDS, specials_from_extra_ids: Sequence[Text] = ()
) -> ByteVocabulary:
  """Returns a vocabulary of UTF-8 bytes, ids 3 to 258; special tokens can only be extra ids."""
  vocabulary = ByteVocabulary(extra_ids)
  vocabulary.borrow(specials_from_extra_ids)
  return vocabulary


def identity(vocabulary: seqio.Vocabulary) -> dict[str, Any]:
  """Returns what identifies a vocabulary in the identity of a run; the file may be moved."""
  facts: dict[str, Any] = {
    "name": name_of(vocabulary),
    "vocab_size": vocabulary.vocab_size,
    "extra_ids": vocabulary.extra_ids,
    "specials_from_extra_ids": list(getattr(vocabulary, "borrowed", ())),
  }
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    content = _read(vocabulary.sentencepiece_model_file)
    facts["sha256"] = hashlib.sha256(content).hexdigest()
  if isinstance(vocabulary, ExternalVocabulary):
    facts |= vocabulary.facts()
  return facts


def _find(path: str) -> str:
  shipped = VOCABULARY_FOLDER / path
  if "/" not in path and shipped.is_file():
    return str(shipped)
  file = os.path.expanduser(path)
  names = sorted(p.name for p in VOCABULARY_FOLDER.glob("*.model"))
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
