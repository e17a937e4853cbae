"""Makes small token caches for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from launch.caching import small
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.token_cache import TokenCache, open, record
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
  stored = {
    split: [
      Stored(
        tokens,
        record.Target(f"target {i}", np.array([i % 200 + 3, 4])) if targets else None,
        file=i % 2,
        line=i // 2 + 1,
      )
      for i, tokens in enumerate(documents)
    ]
    for split, documents in splits.items()
  }
  codec = codec or ByteCodec(0)
  small.write(folder, stored, codec, name="test", files=("a.txt", "b.txt"), shards=shards)
  return open(folder)
