"""Makes a token cache of Python's standard library where there is no TensorFlow and no network.

launch.cache makes caches of any corpus, on all cores, with a run's own vocabulary. This one is for
trials on a machine that has little more than JAX: one process, the shipped vocabulary.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from etils import epath

from t5x_style.codecs import sentencepiece_models, vocabulary_folder
from t5x_style.codecs.sentencepiece_codec import SentencePieceCodec
from t5x_style.data.corpora import python_stdlib
from t5x_style.shipped_vocabulary import (
  DEFAULT_EXTRA_IDS,
  DEFAULT_VOCABULARY_FILE,
  VOCABULARY_FOLDER,
)
from t5x_style.token_cache import manifest, record, shard_writer
from t5x_style.token_cache.shard_writer import Stored

from ..caching import statistics


def make(folder: Path, most_bytes: int) -> int:
  """Makes the cache, and returns the number of its tokens.

  Args:
    folder: of the cache; new.
    most_bytes: of text; files are taken in the order of a hash of their path.
  """
  folder.mkdir(parents=True)
  codec = _codec()
  identity = {"file": codec.name, "sha256": hashlib.sha256(codec.sp_model).hexdigest()}
  vocabulary_folder.write(epath.Path(folder / "vocabulary"), codec, identity)
  documents = _documents(most_bytes)
  names = [name for name, _ in documents]
  (folder / manifest.SOURCES).write_text(json.dumps(names))
  dtype, written, counts = record.token_dtype(codec.vocab_size), {}, {}
  for split in ("train", "validation"):
    stored = [
      Stored(np.array(codec.encode(text), np.int32), None, file, 0)
      for file, (name, text) in enumerate(documents)
      if python_stdlib.split_of(name) == split
    ]
    stored = [document for document in stored if len(document.tokens)]
    written[split] = (shard_writer.write(folder, f"{split}-00000-of-00001", stored, dtype),)
    text_bytes = sum(len(documents[document.file][1].encode()) for document in stored)
    lengths = [len(document.tokens) for document in stored]
    counts[split] = statistics.of_documents(lengths, text_bytes, 0)
  manifest.Manifest(
    corpus={
      "name": "python_stdlib",
      "fingerprint": hashlib.sha256(repr(names).encode()).hexdigest(),
    },
    vocabulary={
      "identity": identity,
      "ids": codec.vocab_size,
      "eos_id": codec.eos_id,
      "unknown_id": codec.unknown_id,
    },
    targets=False,
    options={},
    statistics={"splits": counts, "left_out": {}, "changed": {}, "warnings": []},
    splits=written,
  ).write(folder)
  return sum(count["tokens"] for count in counts.values())


def _codec() -> SentencePieceCodec:
  content = (VOCABULARY_FOLDER / DEFAULT_VOCABULARY_FILE).read_bytes()
  model = sentencepiece_models.load(content, DEFAULT_EXTRA_IDS)
  return SentencePieceCodec(model, DEFAULT_VOCABULARY_FILE, DEFAULT_EXTRA_IDS)


def _documents(most_bytes: int) -> list[tuple[str, str]]:
  """Returns (file, text) of the library's files in UTF-8, of both splits, until there is enough."""
  base, found, size = python_stdlib.folder(), [], 0
  paths = sorted(
    python_stdlib.text_files(base), key=lambda path: hashlib.sha256(path.encode()).digest()
  )
  for path in paths:
    try:
      text = (base / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
      continue
    found.append((path, text))
    size += len(text)
    splits = {python_stdlib.split_of(name) for name, _ in found}
    if size >= most_bytes and len(splits) == 2:
      break
  return found
