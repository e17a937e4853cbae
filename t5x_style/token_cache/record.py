"""The bytes of a record: the tokens of a document, or of a piece of a long one.

A record holds RECORD_TOKENS tokens at most, so that a window of a long document does not need all
of it. Tokens are little-endian integers of 2 bytes, or of 4 where the vocabulary has more than
65,536 ids. Where documents have targets, a header of two uint32 comes first: the number of the
document's tokens in this record, and of its target's tokens; after the tokens come the target's
tokens and its text in UTF-8. Only the first record of a document holds its target.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

RECORD_TOKENS = 4096
_HEADER = np.dtype("<u4")


class Target(NamedTuple):
  """What is to be predicted for a document."""

  text: str
  tokens: np.ndarray  # int32 [n]


def token_dtype(ids: int) -> np.dtype:
  """Returns the integers in which tokens of a vocabulary of this many ids are stored."""
  return np.dtype("<u2") if ids <= 2**16 else np.dtype("<i4")


def count(tokens: np.ndarray) -> np.ndarray:
  """Returns the number of records of documents of this many tokens, at least 1 each."""
  return np.maximum(1, -(-tokens // RECORD_TOKENS))


def encode(tokens: np.ndarray, target: Target | None, dtype: np.dtype) -> Iterator[bytes]:
  """Yields the records of a document, one or more; tokens are integers [n]."""
  stored = tokens.astype(dtype)
  for start in range(0, max(1, len(stored)), RECORD_TOKENS):
    piece = stored[start : start + RECORD_TOKENS].tobytes()
    if target is None:
      yield piece
      continue
    first = start == 0
    sizes = np.array([len(piece) // dtype.itemsize, len(target.tokens) if first else 0], _HEADER)
    after = target.tokens.astype(dtype).tobytes() + target.text.encode() if first else b""
    yield sizes.tobytes() + piece + after


def tokens(record: bytes, dtype: np.dtype, targets: bool) -> np.ndarray:
  """Returns the document's tokens of a record, int32 [n].

  Args:
    dtype: of the stored tokens.
    targets: whether the documents of the cache have targets.
  """
  if not targets:
    return np.frombuffer(record, dtype).astype(np.int32)
  (size, _), start = np.frombuffer(record, _HEADER, 2), 2 * _HEADER.itemsize
  return np.frombuffer(record, dtype, int(size), start).astype(np.int32)


def target(record: bytes, dtype: np.dtype) -> Target:
  """Returns the target in the first record of a document."""
  size, target_size = map(int, np.frombuffer(record, _HEADER, 2))
  start = 2 * _HEADER.itemsize + size * dtype.itemsize
  found = np.frombuffer(record, dtype, target_size, start).astype(np.int32)
  return Target(record[start + target_size * dtype.itemsize :].decode(), found)
