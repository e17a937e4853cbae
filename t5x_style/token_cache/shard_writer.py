"""Writes one shard of a token cache; its files appear only when they are complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from array_record.python import array_record_module

from t5x_style.token_cache import record
from t5x_style.token_cache.manifest import FileFacts, ShardFacts

_WRITER_OPTIONS = "group_size:16,uncompressed"


class Stored(NamedTuple):
  """A document to write."""

  tokens: np.ndarray  # integers [n], without EOS
  target: record.Target | None
  file: int  # number in sources.json
  line: int
  part: int = 0


def write(folder: Path, name: str, documents: Iterable[Stored], dtype: np.dtype) -> ShardFacts:
  """Writes NAME.array_record and NAME.index.

  Args:
    folder: of the cache.
    name: "train-00000-of-00008".
    documents: in their order; each has a token at least, and all have a target or none has.
    dtype: of the stored tokens.
  """
  records, index = folder / f"{name}.array_record", folder / f"{name}.index"
  writing = records.with_name(f".{records.name}.tmp"), index.with_name(f".{index.name}.tmp")
  writer = array_record_module.ArrayRecordWriter(str(writing[0]), _WRITER_OPTIONS)
  rows: list[tuple[int, int, int, int]] = []
  start = first = 0
  for document in documents:
    rows.append((start, first, (document.file << 32) | document.part, document.line))
    for stored in record.encode(document.tokens, document.target, dtype):
      writer.write(stored)
      first += 1
    start += len(document.tokens) + 1
  writer.close()
  rows.append((start, first, 0, 0))
  with writing[1].open("wb") as file:
    np.save(file, np.array(rows, np.int64).reshape(-1, 4).T.copy())
  for temporary, final in zip(writing, (records, index), strict=True):
    os.replace(temporary, final)
  count = len(rows) - 1
  return ShardFacts(name, count, start - count, file_facts(records), file_facts(index))


def file_facts(file: Path) -> FileFacts:
  """Returns what a manifest says of a file; it reads the file once."""
  with file.open("rb") as content:
    checksum = hashlib.file_digest(content, "sha256").hexdigest()
  return FileFacts(file.name, file.stat().st_size, checksum)
