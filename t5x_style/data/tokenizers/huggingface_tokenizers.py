"""Hugging Face's tokenizers (tokenizer.json, vocab.txt, vocab.json) as vocabularies.

Inside t5x_style.data id 0 is padding and the sentinels are the highest ids. A tokenizer may have
"!" at 0 (GPT-2), padding at 1 (RoBERTa) or no padding. So tokens are renumbered for the objectives,
and t5x_style.data.model_ids gives the model the tokenizer's own numbers. For BERT's and T5's
tokenizers the two are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from t5x_style.codecs import published_tokenizers
from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec
from t5x_style.data.tokenizers import vocabularies
from t5x_style.data.tokenizers.base import ExternalVocabulary
from t5x_style.setting_types import SentinelCount, Text

# How many documents are encoded at once, on all cores. The ids do not depend on it.
_DOCUMENTS = 16


class HuggingFaceVocabulary(ExternalVocabulary):
  """The vocabulary of a tokenizer.json; `hf_tokenizer` creates it."""

  def __init__(self, content: str, name: str, tokens: Mapping[str, str | int], extra_ids: int):
    codec = TokenizerJsonCodec(content, name, tokens, extra_ids)
    super().__init__(len(codec.extra_ids))
    self._codec, self.name = codec, name
    self.model_ids = _numbering(codec)
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
    same = isinstance(other, HuggingFaceVocabulary)
    return same and vocabularies.identity(self) == vocabularies.identity(other)

  __hash__ = None  # type: ignore[assignment]

  def __reduce__(self):
    codec = self._codec
    extra = codec.settings()["extra_ids"]
    return _remade, (codec.content, self.name, codec.special_tokens, extra, self.borrowed)


def hf_tokenizer(
  path: Text,
  extra_ids: SentinelCount = 0,
  specials_from_extra_ids: Sequence[Text] = (),
  special_tokens: Mapping[Text, Text] | None = None,
  lower_case: bool | None = None,
) -> HuggingFaceVocabulary:
  """Returns the vocabulary of a Hugging Face tokenizer; a model needs a row for each of its tokens.

  tokenizer_config.json beside it says which tokens are padding, EOS, [CLS] ..., else the special
  tokens in the file itself do. Documents end with EOS or, if there is none, with [SEP]. Decoders
  start with config.json's decoder_start_token_id, else with BOS, padding or EOS.

  Args:
    path: a tokenizer.json, BERT's vocab.txt, GPT-2's vocab.json (with merges.txt beside it), or the
      folder of one; also gs://...
    extra_ids: sentinels to append if the tokenizer has none; sentinel k is vocab_size - 1 - k.
    specials_from_extra_ids: special tokens the file lacks; see vocabularies.sentencepiece.
    special_tokens: overrides what the files say: {"eos": "<|end|>", "pad": ..., "start": ...,
      "[MASK]": "<mask>", "[R]": "<denoise>"}.
    lower_case: of a vocab.txt; see published_tokenizers.read.

  Raises:
    UserError: the package tokenizers is not installed, the file does not exist, is not a tokenizer
      or cannot encode every text, or a token is unknown.
  """
  found = published_tokenizers.read(path, lower_case)
  tokens = {**found.tokens, **(special_tokens or {})}
  return _remade(found.content, str(found.file), tokens, extra_ids, specials_from_extra_ids)


def _remade(content, name, tokens, extra_ids, borrowed):
  vocabulary = HuggingFaceVocabulary(content, name, tokens, extra_ids)
  vocabulary.borrow(borrowed)
  return vocabulary


def _numbering(codec: TokenizerJsonCodec) -> np.ndarray:
  """Returns the tokenizer's numbers in the order of SeqIO's ids, int32 [V].

  pad is 1, of 4 tokens:       [1, 0, 2, 3]            0 and padding change places
  no padding, 2 extra ids:     [-1, 1, 2, 3, 0, 4, 5]  0 moves to the end
  """
  extra = set(codec.extra_ids.tolist())
  rest = [i for i in range(codec.vocab_size) if i not in extra]
  if codec.pad_id < 0:
    rest = [-1, *rest[1:], rest[0]]
  else:
    at = rest.index(codec.pad_id)
    rest[0], rest[at] = rest[at], rest[0]
  return np.array([*rest, *codec.extra_ids], np.int32)
