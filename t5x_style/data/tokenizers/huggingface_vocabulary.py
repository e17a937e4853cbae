"""A tokenizer.json of Hugging Face as a vocabulary of SeqIO; huggingface_tokenizers.py makes it.

Its tokens are renumbered for the objectives (token_ids.py), unless it numbers them as SeqIO does,
like the tokenizers of BERT and T5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import token_ids, vocabularies
from t5x_style.data.tokenizers.base import ExternalVocabulary

# How many documents are encoded at once, on all cores. The ids do not depend on it.
_DOCUMENTS = 16


class HuggingFaceVocabulary(ExternalVocabulary):
  """The vocabulary of a tokenizer.json; `hf_tokenizer` creates it."""

  def __init__(self, content: str, name: str, tokens: Mapping[str, str | int], extra_ids: int):
    codec = TokenizerJsonCodec(content, name, tokens, extra_ids)
    super().__init__(len(codec.extra_ids))
    self._codec, self.name = codec, name
    self.model_ids = token_ids.numbering(codec)
    self.model_vocab_size = codec.vocab_size
    self.start_id = codec.start_id
    self._own = np.zeros(self.model_vocab_size, np.int32)
    real = self.model_ids >= 0
    self._own[self.model_ids[real]] = np.flatnonzero(real)
    self._eos_id, self._unk_id = int(self._own[codec.eos_id]), None
    if codec.unknown_id is not None:
      self._unk_id = int(self._own[codec.unknown_id])

  @property
  def codec(self) -> TokenizerJsonCodec:
    # Special tokens are borrowed after the vocabulary has been made.
    self._codec.borrowed = self.borrowed
    return self._codec

  @property
  def bos_id(self) -> int | None:
    return None

  @property
  def eos_id(self) -> int:
    return self._eos_id

  @property
  def unk_id(self) -> int | None:
    return self._unk_id

  @property
  def _base_vocab_size(self) -> int:
    return len(self.model_ids) - self._extra_ids

  @property
  def vocab_size(self) -> int:
    return len(self.model_ids)

  def own_ids(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Converts the tokenizer's numbers to SeqIO's ids; negative numbers are padding."""
    ids = np.asarray(ids, np.int64)
    inside = (ids >= 0) & (ids < len(self._own))
    return np.where(inside, self._own[np.where(inside, ids, 0)], 0)

  def facts(self) -> dict[str, Any]:
    digest = hashlib.sha256(self._codec.content.encode()).hexdigest()
    tokens = self._codec.special_tokens
    return {"sha256": digest, "special_tokens": tokens, "start_id": self.start_id}

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the int32 ids of each text, without special tokens around it or in it."""
    return [self._own[row] for row in self._codec.encode_batch(texts)]

  def encode_documents(self, text: tf.Tensor) -> tf.RaggedTensor:
    """Encodes strings [B] as int32 [B, (n)], with one call of Python for the batch."""

    def encode(texts):
      ids = self.encode_batch([t.decode() for t in texts])
      lengths = np.array([len(x) for x in ids], np.int32)
      return np.concatenate([np.zeros(0, np.int32), *ids]), lengths

    ids, lengths = tf.numpy_function(encode, [text], [tf.int32, tf.int32], stateful=False)
    ids.set_shape([None])
    lengths.set_shape([None])
    return tf.RaggedTensor.from_row_lengths(ids, lengths, validate=False)

  def tokenize(self, documents: tf.data.Dataset) -> tf.data.Dataset:
    def encode(batch):
      text = tf.strings.unicode_transcode(batch["text"], "UTF-8", "UTF-8", errors="replace")
      kept = {k: v for k, v in batch.items() if k != "text"}
      return {
        "targets": self.encode_documents(text),
        "repaired": text != batch["text"],
        **kept,
      }

    # One batch at a time: the library itself spreads it over the cores.
    return documents.batch(_DOCUMENTS).map(encode).unbatch()

  def _encode(self, s: str) -> list[int]:
    return self.encode_batch([s])[0].tolist()

  def _decode(self, ids: Sequence[int]) -> str:
    return self._codec.decode(self.model_ids[i] for i in ids if 0 < i < len(self.model_ids))

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    return self.encode_documents(s[None])[0]

  def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
    text = tf.numpy_function(lambda x: self._decode(x.tolist()).encode(), [ids], tf.string)
    text.set_shape([])
    return text

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, HuggingFaceVocabulary):
      return False
    return vocabularies.identity(self) == vocabularies.identity(other)

  __hash__ = None  # type: ignore[assignment]

  def __reduce__(self):
    codec = self._codec
    extra = codec.settings()["extra_ids"]
    return remade, (codec.content, self.name, codec.special_tokens, extra, self.borrowed)


def remade(
  content: str, name: str, tokens: Mapping[str, str | int], extra_ids: int, borrowed: Sequence[str]
) -> HuggingFaceVocabulary:
  """Makes a vocabulary of the content of a file; also when one is unpickled."""
  vocabulary = HuggingFaceVocabulary(content, name, tokens, extra_ids)
  vocabulary.borrow(borrowed)
  return vocabulary
