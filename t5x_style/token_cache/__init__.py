"""The token cache: documents as tokens in sharded ArrayRecord files, read by index.

  cache.py         TokenCache and Split: what a run reads; `open` opens a folder
  shard.py         one shard, read by index
  shard_writer.py  writes a shard
  manifest.py      manifest.json: what is in the folder
  verification.py  the checks of the files
  record.py        the bytes of a record
It needs no JAX, TensorFlow or gin. `python -m launch.cache` makes a cache.

The folder:
  manifest.json                           counts, checksums, corpus, vocabulary, statistics, options
  vocabulary/                             as codecs.vocabulary_folder writes it
  sources.json                            the names of the files that documents came from
  train-00000-of-00008.array_record       records; see record.py
  train-00000-of-00008.index              an int64 array [5, N+1]; see shard.py
and the same for "validation". A shard holds the documents of a range of a hash of their text. In it
they lie in the order of a hash of their text and their place, so neighbours are random, and copies
of a text lie apart.
"""

from t5x_style.token_cache.cache import Source, Split, TokenCache
from t5x_style.token_cache.cache import open_cache as open

__all__ = ["Source", "Split", "TokenCache", "open"]
