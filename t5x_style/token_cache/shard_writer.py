"""Writes one shard of a token cache; its files appear only when they are complete."""

from __future__ import annotations

import array
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from array_record.python import array_record_module

from t5x_style.token_cache import record, verification
from t5x_style.token_cache.manifest import ShardFacts
from t5x_style.token_cache.shard import ROWS

# Chosen by measuring: see NOTES.md.
_WRITER_OPTIONS = "group_size:4,uncompressed"


class Stored(NamedTuple):
  """A document to write."""

  tokens: np.ndarray  # integers [n], without EOS; n >= 1
  target: record.Target | None
  file: int  # number in sources.json
  line: int
  part: int = 0


def write(folder: Path, name: str, documents: Iterable[Stored], dtype: np.dtype) -> ShardFacts:
  """Writes NAME.array_record and NAME.index.

  Args:
    folder: of the cache.
    name: "train-00000-of-00008".
    documents: in their order; all have a target or none has.
    dtype: of the stored tokens.
  """
  finals = folder / f"{name}.array_record", folder / f"{name}.index"
  records, index = (x.with_name(f".{x.name}.{os.getpid()}.tmp") for x in finals)
  try:
    writer = array_record_module.ArrayRecordWriter(str(records), _WRITER_OPTIONS)
    rows = array.array("q")  # 40 bytes a document
    start = first = targets = 0
    for document in documents:
      place = (document.file << 32) | document.part
      rows.extend((start, first, place, document.line, targets))
      for stored in record.encode(document.tokens, document.target, dtype):
        writer.write(stored)
        first += 1
      start += len(document.tokens) + 1
      targets += 0 if document.target is None else len(document.target.tokens)
    writer.close()
    rows.extend((start, first, 0, 0, targets))
    with index.open("wb") as file:
      np.save(file, np.ascontiguousarray(np.frombuffer(rows, np.int64).reshape(-1, ROWS).T))
    for temporary, final in zip((records, index), finals, strict=True):
      os.replace(temporary, final)
  finally:
    records.unlink(missing_ok=True)
    index.unlink(missing_ok=True)
  count = len(rows) // ROWS - 1
  facts = (verification.facts_of(final, folder) for final in finals)
  return ShardFacts(name, count, start - count, *facts)
