"""Makes small token caches for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from etils import epath

from launch.caching import statistics
from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.token_cache import TokenCache, manifest, open, record, shard_writer
from t5x_style.token_cache.manifest import Manifest
from t5x_style.token_cache.shard_writer import Stored


def make(
  folder: Path,
  splits: Mapping[str, Sequence[np.ndarray]],
  *,
  codec: TextCodec | None = None,
  shards: int = 2,
  targets: bool = False,
) -> TokenCache:
  """Makes a cache of documents in the given order, cut evenly into shards, and opens it.

  Args:
    splits: {split: documents}; a document is its tokens, integers [n].
    codec: of the vocabulary, ByteCodec(0) if None, whose ids are bytes + 3.
    targets: whether document i has the target "target i", whose tokens are [i % 200 + 3, 4].
  """
  folder.mkdir(parents=True)
  codec = codec or ByteCodec(0)
  identity = {"name": codec.name}
  vocabulary_folder.write(epath.Path(folder / "vocabulary"), codec, identity)
  (folder / manifest.SOURCES).write_text('["a.txt", "b.txt"]')
  dtype = record.token_dtype(codec.vocab_size)
  written = {}
  for split, documents in splits.items():
    stored = [
      Stored(
        tokens,
        record.Target(f"target {i}", np.array([i % 200 + 3, 4])) if targets else None,
        file=i % 2,
        line=i // 2 + 1,
      )
      for i, tokens in enumerate(documents)
    ]
    bounds = [len(stored) * k // shards for k in range(shards + 1)]
    written[split] = tuple(
      shard_writer.write(
        folder, f"{split}-{k:05d}-of-{shards:05d}", stored[bounds[k] : bounds[k + 1]], dtype
      )
      for k in range(shards)
    )
  Manifest(
    corpus={"name": "test", "fingerprint": ""},
    vocabulary={
      "identity": identity,
      "ids": codec.vocab_size,
      "eos_id": codec.eos_id,
      "unknown_id": codec.unknown_id,
    },
    targets=targets,
    options={},
    statistics={
      "splits": {
        split: statistics.of_documents([len(x) for x in documents], 0, 0)
        for split, documents in splits.items()
      },
      "left_out": {},
      "changed": {},
      "warnings": [],
    },
    splits=written,
  ).write(folder)
  return open(folder)
