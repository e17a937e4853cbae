"""Hugging Face's tokenizers (`tokenizer.json`) as vocabularies.

Inside t5x_style.data id 0 is padding and the sentinels are the highest ids. A tokenizer may have
"!" at 0 (GPT-2), padding at 1 (RoBERTa) or no padding. So tokens are renumbered for the objectives,
and t5x_style.data.model_ids gives the model the tokenizer's own numbers. For BERT's and T5's
tokenizers the two are the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from t5x_style.data.tokenizers import tokenizer_json, vocabularies
from t5x_style.data.tokenizers.base import ExternalVocabulary
from t5x_style.errors import UserError
from t5x_style.setting_types import SentinelCount, Text

# How many documents are encoded at once, on all cores. The ids do not depend on it.
_DOCUMENTS = 16


class HuggingFaceVocabulary(ExternalVocabulary):
  """The vocabulary of a tokenizer.json; `hf_tokenizer` creates it.

  Attributes:
    tokenizer: a tokenizers.Tokenizer.
    byte_level: whether the tokens consist of bytes, as GPT-2's do.
    Those of ExternalVocabulary.
  """

  def __init__(self, content: str, name: str, tokens: Mapping[str, str | int], extra_ids: int):
    self.tokenizer, settings = tokenizer_json.load(content, name)
    self._content, self.name = content, name
    size = 1 + max(self.tokenizer.get_vocab(with_added_tokens=True).values())
    declared = tokenizer_json.SpecialTokens(self.tokenizer, settings, tokens, name)
    own = declared.sentinels()
    if own and extra_ids:
      raise UserError(
        f"the tokenizer {name} has {len(own)} sentinels of its own, <extra_id_0> and so on: set "
        "EXTRA_IDS = 0."
      )
    super().__init__(len(own) or extra_ids)
    pad, eos = declared.role("pad"), declared.role("eos")
    pad = None if pad == eos else pad  # A token that also ends documents cannot be padding.
    self.model_ids = _numbering(size, pad, own, extra_ids)
    self.model_vocab_size = size + extra_ids
    self._own = np.zeros(self.model_vocab_size, np.int32)
    real = self.model_ids >= 0
    self._own[self.model_ids[real]] = np.flatnonzero(real)
    self._eos_id, self._unk_id = int(self._own[eos]), None
    if (unknown := declared.unknown()) not in (None, eos):  # GPT-2 names its EOS, and needs none
      self._unk_id = int(self._own[unknown])
    start = declared.role("start")
    self.start_id: int = next(i for i in (start, pad, eos) if i is not None)
    self.named_tokens = {k: int(self._own[v]) for k, v in declared.named().items()}
    special = {int(self._own[i]): token for i, token in declared.special.items()}
    special[self._eos_id] = self.tokenizer.id_to_token(eos)
    self.special_marks = {**special, 0: ""}
    self.piece_bytes = self._piece_bytes(settings)
    self.keeps_text = settings["model"]["type"] not in ("WordPiece", "WordLevel")
    self.byte_level = is_byte_level(settings)
    self._special = declared.special
    tokenizer_json.keep_out_of_text(self.tokenizer, declared.special)
    self._reserved = np.zeros(self.model_vocab_size, bool)
    self._reserved[list(declared.special)] = True
    self._tokens = dict(tokens)

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

  @property
  def settings(self) -> dict[str, Any]:
    """The content of the tokenizer.json."""
    return json.loads(self._content)

  def facts(self) -> dict[str, Any]:
    digest = hashlib.sha256(self._content.encode()).hexdigest()
    return {"sha256": digest, "special_tokens": self._tokens, "start_id": self.start_id}

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the int32 ids of each text, without special tokens around it or in it."""
    encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    rows = [np.array(e.ids, np.int32) for e in encoded]
    return [self._own[self._as_text(*both)] for both in zip(rows, texts, strict=True)]

  def _as_text(self, row: np.ndarray, text: str) -> np.ndarray:
    """Returns the tokenizer's numbers of a text, encoded again if `row` has special tokens.

    A special token that is written out in a text, "[MASK]", is ordinary letters.
    """
    reserved = self._reserved[row]
    unknown = None if self._unk_id is None else self.model_ids[self._unk_id]
    if not reserved.any() or (
      (row[reserved] == unknown).all() and self._special[unknown] not in text
    ):
      return row
    row = np.array(self._careful.encode(text, add_special_tokens=False).ids, np.int32)
    # A special token of a single character has no other encoding.
    reserved = self._reserved[row] & (row != unknown)
    return row[~reserved] if unknown is None else np.where(reserved, unknown, row)

  @functools.cached_property
  def _careful(self) -> Any:
    """The tokenizer for texts in which special tokens are written out."""
    return tokenizer_json.without_literals(self.tokenizer, self._special.values())

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
    own = [int(self.model_ids[i]) for i in ids if 0 < i < len(self.model_ids)]
    return self.tokenizer.decode(own, skip_special_tokens=True)

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
    return _remade, (self._content, self.name, self._tokens, self._extra_ids, self.borrowed)

  def _piece_bytes(self, settings: Mapping[str, Any]) -> list[bytes]:
    """Returns the text that each id stands for, [V]; appended ids are empty."""
    added = set(self.tokenizer.get_added_tokens_decoder())
    pieces = {i: p for p, i in self.tokenizer.get_vocab(with_added_tokens=True).items()}
    to_bytes = piece_reader(settings)
    table = []
    for i in self.model_ids.tolist():
      piece = pieces.get(i, "")
      table.append(piece.encode() if i in added else to_bytes(piece))
    return table


def hf_tokenizer(
  path: Text,
  extra_ids: SentinelCount = 0,
  specials_from_extra_ids: Sequence[Text] = (),
  special_tokens: Mapping[Text, Text] | None = None,
) -> HuggingFaceVocabulary:
  """Returns the vocabulary of a tokenizer.json; a model needs a row for each of its tokens.

  tokenizer_config.json beside it says which tokens are padding, EOS, [CLS] ..., else the special
  tokens in the file itself do. Documents end with EOS or, if there is none, with [SEP]. Decoders
  start with config.json's decoder_start_token_id, else with BOS, padding or EOS.

  Args:
    path: the file or its folder; also gs://...
    extra_ids: sentinels to append if the tokenizer has none; sentinel k is vocab_size - 1 - k.
    specials_from_extra_ids: special tokens the file lacks; see vocabularies.sentencepiece.
    special_tokens: overrides what the files say: {"eos": "<|end|>", "pad": ..., "start": ...,
      "[MASK]": "<mask>", "[R]": "<denoise>"}.

  Raises:
    UserError: the package tokenizers is not installed, the file does not exist, is not a tokenizer
      or cannot encode every text, or a token is unknown.
  """
  file = os.path.expanduser(path)
  if tf.io.gfile.isdir(file):
    file = os.path.join(file, "tokenizer.json")
  if not tf.io.gfile.exists(file):
    raise UserError(
      f"there is no tokenizer {file!r}. Set VOCABULARY_FILE to a tokenizer.json or its folder; for "
      "a SentencePiece .model include data/vocabulary.gin instead."
    )
  tokens = tokenizer_json.declared_beside(os.path.dirname(file)) | dict(special_tokens or {})
  with tf.io.gfile.GFile(file, "r") as f:
    content = f.read()
  return _remade(content, file, tokens, extra_ids, specials_from_extra_ids)


def _remade(content, name, tokens, extra_ids, borrowed):
  vocabulary = HuggingFaceVocabulary(content, name, tokens, extra_ids)
  vocabulary.borrow(borrowed)
  return vocabulary


def _numbering(size: int, pad: int | None, own: Sequence[int], extra: int) -> np.ndarray:
  """Returns the tokenizer's numbers in the order of SeqIO's ids, int32 [V].

  pad is 1, of 4 tokens:       [1, 0, 2, 3]            0 and padding change places
  no padding, 2 extra ids:     [-1, 1, 2, 3, 0, 4, 5]  0 moves to the end
  """
  kept = set(own)
  rest = [i for i in range(size) if i not in kept]
  if pad is None:
    rest = [-1, *rest[1:], rest[0]]
  else:
    at = rest.index(pad)
    rest[0], rest[at] = rest[at], rest[0]
  return np.array([*rest, *range(size, size + extra), *reversed(own)], np.int32)


@functools.cache
def _byte_of() -> dict[str, int]:
  """Returns GPT-2's characters for bytes: printable bytes are themselves, others from U+0100 on."""
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [b for b in range(256) if b not in printable]
  return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def is_byte_level(settings: Mapping[str, Any]) -> bool:
  """Returns whether the tokens of a tokenizer.json consist of bytes."""
  steps = json.dumps([settings.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")])
  return '"type": "ByteLevel"' in steps


def piece_reader(settings: Mapping[str, Any]) -> Callable[[str], bytes]:
  """Returns a function from a token to its bytes; words of WordPiece get a space in front."""
  model = settings["model"]
  if model["type"] == "WordPiece":
    prefix = model.get("continuing_subword_prefix", "##")
    return lambda p: (p[len(prefix) :] if p.startswith(prefix) else f" {p}").encode()
  if is_byte_level(settings):
    table = _byte_of()
    return lambda p: b"".join(bytes([table[c]]) if c in table else c.encode() for c in p)

  def read(piece):
    if match := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
      return bytes([int(match[1], 16)])
    return piece.replace("\u2581", " ").replace("</w>", " ").encode()

  return read
