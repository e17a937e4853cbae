"""SentencePiece and byte vocabularies, as gin binds them.

Hugging Face's tokenizers are in huggingface_tokenizers.py. SeqIO and TensorFlow are imported when a
vocabulary is made: gin files name these functions also where a token cache brings its vocabulary.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

from t5x_style.codecs import sentencepiece_models
from t5x_style.data.tokenizers.vocabulary import Vocabulary
from t5x_style.errors import UserError
from t5x_style.setting_types import SentinelCount, Text
from t5x_style.shipped_vocabulary import (
  DEFAULT_EXTRA_IDS,
  DEFAULT_VOCABULARY_FILE,
  VOCABULARY_FOLDER,
)


def sentencepiece(
  path: Text = DEFAULT_VOCABULARY_FILE,
  extra_ids: SentinelCount = DEFAULT_EXTRA_IDS,
  specials_from_extra_ids: Sequence[Text] = (),
) -> Vocabulary:
  """Returns a SentencePiece vocabulary: the ids of the file, then the extra ids.

  Args:
    path: a file, also gs://..., or the name of one that comes with the package.
    extra_ids: sentinels after the file's ids; sentinel k is vocab_size - 1 - k. 0 where the file
      has its own sentinels.
    specials_from_extra_ids: special tokens that the file lacks, of any name, e.g. ("[MASK]",). They
      take the lowest extra ids, so there are fewer sentinels.

  Raises:
    UserError: the file does not exist or is not a SentencePiece model, padding, EOS and UNK are not
      0, 1 and 2, or it has its own sentinels and `extra_ids` is not 0.
  """
  from t5x_style.data.tokenizers import seqio_vocabularies

  file = _find(path)
  sentencepiece_models.check(file, seqio_vocabularies.read(file))
  vocabulary = seqio_vocabularies.SentencePieceVocabulary(file, extra_ids)
  vocabulary.borrow(specials_from_extra_ids)
  return vocabulary


def byte_vocabulary(
  extra_ids: SentinelCount = DEFAULT_EXTRA_IDS, specials_from_extra_ids: Sequence[Text] = ()
) -> Vocabulary:
  """Returns a vocabulary of UTF-8 bytes, ids 3 to 258; special tokens can only be extra ids.

  Args:
    extra_ids: sentinels, after the bytes.
    specials_from_extra_ids: special tokens, as of `sentencepiece`.
  """
  from t5x_style.data.tokenizers.seqio_vocabularies import ByteVocabulary

  vocabulary = ByteVocabulary(extra_ids)
  vocabulary.borrow(specials_from_extra_ids)
  return vocabulary


def identity(vocabulary: Vocabulary) -> dict[str, Any]:
  """Returns what identifies a vocabulary in the identity of a run; the file may be moved."""
  import seqio

  from t5x_style.data.tokenizers import seqio_vocabularies
  from t5x_style.data.tokenizers.base import ExternalVocabulary, name_of

  facts: dict[str, Any] = {
    "name": name_of(vocabulary),
    "vocab_size": vocabulary.vocab_size,
    "extra_ids": vocabulary.extra_ids,
    "specials_from_extra_ids": list(getattr(vocabulary, "borrowed", ())),
  }
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    content = seqio_vocabularies.read(vocabulary.sentencepiece_model_file)
    facts["sha256"] = hashlib.sha256(content).hexdigest()
  if isinstance(vocabulary, ExternalVocabulary):
    facts |= vocabulary.facts()
  return facts


def _find(path: str) -> str:
  from t5x_style.data.tensorflow_setup import tf

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
