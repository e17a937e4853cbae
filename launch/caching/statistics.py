"""What is counted of the documents of a cache; counts of shards and pieces of work are added."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def of_documents(
  tokens: Sequence[int] | np.ndarray, text_bytes: int, unknown: int
) -> dict[str, Any]:
  """Returns the counts of documents.

  Args:
    tokens: how many each document has.
    text_bytes: of all documents, in UTF-8.
    unknown: tokens that stand for what the vocabulary cannot spell.

  Returns:
    "documents", "tokens", "text_bytes", "unknown_tokens", and "lengths": {upper bound: documents
    of at most this many tokens and more than half of it}, for the powers of 2.
  """
  lengths = np.asarray(tokens, np.int64)
  bounds = np.ceil(np.log2(np.maximum(lengths, 1))).astype(int)
  histogram = {str(2**i): int(n) for i, n in enumerate(np.bincount(bounds)) if n}
  return {
    "documents": len(lengths),
    "tokens": int(lengths.sum()),
    "text_bytes": text_bytes,
    "unknown_tokens": unknown,
    "lengths": histogram,
  }


def total(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  """Adds counts: numbers, and numbers in mappings."""
  result: dict[str, Any] = {}
  for part in parts:
    for name, value in part.items():
      if isinstance(value, Mapping):
        counts = collections.Counter(result.get(name, {}))
        counts.update(value)
        result[name] = dict(sorted(counts.items(), key=lambda item: int(item[0])))
      else:
        result[name] = result.get(name, 0) + value
  return result
