"""What launch.cache is asked to make, from a run's corpus and vocabulary."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style.codecs.text_codec import TextCodec
from t5x_style.data.corpora import Mixture, TokenCache
from t5x_style.data.tokenizers import vocabularies, vocabulary_coverage
from t5x_style.data.tokenizers.base import ExternalVocabulary, codec_of
from t5x_style.errors import UserError

from . import corpus_documents
from .make import Request
from .plan import Plan


def of(
  corpus: Any,
  vocabulary: Any,
  folder: Path,
  deduplicate: bool,
  shards: int | None,
  workers: int,
  beam_flags: Sequence[str],
) -> Request:
  """Returns the request; of the corpus only samples are read.

  Args:
    corpus, vocabulary: of the run.
    folder: of the new cache.
    deduplicate: whether of equal documents only the first is kept.
    shards: of "train"; None: by the documents.
    workers, beam_flags: see make.Request.

  Raises:
    UserError: one of them is missing, or cannot be cached.
  """
  for value, macro in ((corpus, "CORPUS"), (vocabulary, "VOCABULARY")):
    if value is None:
      raise UserError(f"{macro} is not set; include a file of gin_configs/data/.")
  if isinstance(corpus, TokenCache | Mixture):
    raise UserError(
      f"CORPUS is a {type(corpus).__name__}, which has no texts of its own; cache the corpora that "
      "it is made of, each in a folder of its own."
    )
  codec = codec_of(vocabulary)
  documents = corpus_documents.of(corpus)
  pieces = documents.pieces()
  _warn_of_unknown_text(codec, documents, pieces)
  unknown = codec.unknown_id
  plan = Plan(
    documents,
    pieces,
    vocabulary.vocab_size,
    _own_ids(vocabulary),
    None if unknown is None else _stored(vocabulary, unknown),
    corpus_documents.have_targets(documents, pieces),
    deduplicate,
  )
  settings = {
    "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint()},
    "vocabulary": vocabularies.identity(vocabulary),
    "options": {"deduplicate": deduplicate, "shards": shards},
  }
  return Request(folder, plan, settings, codec, vocabulary.eos_id, workers, beam_flags)


def _warn_of_unknown_text(
  codec: TextCodec, documents: corpus_documents.Documents, pieces: Sequence[corpus_documents.Piece]
) -> None:
  """Warns if the vocabulary does not cover much of the first texts, or drops some of it."""
  each = (document for piece in pieces for document in documents.read(piece))
  texts = (text for document in each for text in (*document.texts, document.target) if text)
  sample: list[str] = []
  with contextlib.suppress(UserError, OSError):  # Tokenising reads them again and raises the error.
    sample.extend(vocabulary_coverage.excerpts(texts))
  coverage = vocabulary_coverage.of_codec(codec, sample)
  if warning := coverage.warning(codec.name):
    warnings.warn(warning, stacklevel=1)


def _own_ids(vocabulary: Any) -> np.ndarray | None:
  """Returns the stored number of each id of the codec; None if they are the same."""
  if not isinstance(vocabulary, ExternalVocabulary):
    return None
  return vocabulary.own_ids(np.arange(vocabulary.model_vocab_size)).astype(np.int32)


def _stored(vocabulary: Any, number: int) -> int:
  own = _own_ids(vocabulary)
  return number if own is None else int(own[number])
