"""A small token cache, written in this process without Apache Beam: of one text, or for a test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.data.tokenizers import token_ids
from t5x_style.token_cache import manifest, record, shard_writer, verification
from t5x_style.token_cache.manifest import Manifest
from t5x_style.token_cache.shard_writer import Stored

from . import statistics


def write(
  folder: Path,
  splits: Mapping[str, Sequence[Stored]],
  codec: TextCodec,
  *,
  name: str,
  identity: Mapping[str, Any] | None = None,
  files: Sequence[str] = ("",),
  shards: int = 1,
) -> None:
  """Writes a cache; its documents keep the given order, and are cut evenly into shards.

  Args:
    folder: of the cache; it does not exist yet.
    splits: {split: documents}; all of them have a target or none has. Tokens are numbered as by
      token_ids.of_codec(codec).
    codec: of the vocabulary.
    name: of the corpus.
    identity: of the vocabulary, as tokenizers.vocabularies.identity returns it.
    files: the names of the files that documents come from.
    shards: of each split.
  """
  folder.mkdir(parents=True)
  ids = token_ids.of_codec(codec)
  identity = {"name": codec.name} if identity is None else identity
  vocabulary_folder.write(epath.Path(folder / vocabulary_folder.FOLDER), codec, identity)
  (folder / manifest.SOURCES).write_text(json.dumps(list(files)))
  dtype = record.token_dtype(ids.vocab_size)
  written = {}
  for split, documents in splits.items():
    bounds = [len(documents) * k // shards for k in range(shards + 1)]
    names = [f"{split}-{k:05d}-of-{shards:05d}" for k in range(shards)]
    written[split] = tuple(
      shard_writer.write(folder, shard, documents[first:end], dtype)
      for shard, first, end in zip(names, bounds, bounds[1:], strict=False)
    )
  of_splits = {
    split: statistics.of_documents([len(x.tokens) for x in documents], 0, 0)
    for split, documents in splits.items()
  }
  beside = [folder / manifest.SOURCES, *sorted((folder / vocabulary_folder.FOLDER).iterdir())]
  Manifest(
    corpus={"name": name, "fingerprint": ""},
    vocabulary={
      "identity": dict(identity),
      "ids": ids.vocab_size,
      "eos_id": ids.eos_id,
      "unknown_id": ids.unk_id,
    },
    targets=any(x.target is not None for documents in splits.values() for x in documents[:1]),
    options={},
    statistics={"splits": of_splits, "left_out": {}, "changed": {}, "warnings": []},
    splits=written,
    files=tuple(verification.facts_of(file, folder) for file in beside),
  ).write(folder)
