"""SentencePiece models and bytes as vocabularies of SeqIO; vocabularies.py makes them."""

from __future__ import annotations

from typing import Any

import seqio

from t5x_style.codecs import sentencepiece_models
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers.base import SpecialsFromExtraIds
from t5x_style.errors import UserError


class SentencePieceVocabulary(SpecialsFromExtraIds, seqio.SentencePieceVocabulary):
  """SeqIO's SentencePiece vocabulary; extra ids can be special tokens that the model lacks.

  In SeqIO's the text " <extra_id_0>" is a sentinel; here no text becomes a sentinel or a special
  token of the objectives. Where the last pieces of the model are sentinels, as in mT5 (Xue et al.
  2020), they are the extra ids, and none are appended.
  """

  _model: Any

  def __init__(self, file: str, extra_ids: int):
    own = sentencepiece_models.own_sentinels(read(file))
    if own and extra_ids:
      raise UserError(
        f"the vocabulary {file} has {own} sentinels of its own, <extra_id_0> to <extra_id_{own - 1}"
        ">: set EXTRA_IDS = 0."
      )
    self._appended = extra_ids
    super().__init__(file, own or extra_ids)

  def _model_context(self) -> Any:
    if not self._model:
      content = read(self._sentencepiece_model_file)
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


def read(file: str) -> bytes:
  """Returns the content of a file; also gs://..."""
  with tf.io.gfile.GFile(file, "rb") as f:
    return f.read()
