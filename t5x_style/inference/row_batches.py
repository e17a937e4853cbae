"""Rows of different lengths as batches of few shapes, so that few programs are compiled."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.models import Transformer
from t5x_style.partitioning.active_mesh import num_shards

_SHORTEST = 16  # tokens of the shortest bucket


class RowBatch(NamedTuple):
  """Rows that are padded to one length.

  Attributes:
    indices: which of all rows these are; the batch may have more rows, which are empty.
    tokens: int32 [B, L].
    segments: int32 [B, L], 1 on tokens and 0 on padding.
  """

  indices: list[int]
  tokens: np.ndarray
  segments: np.ndarray


def row_batches(
  rows: Sequence[Sequence[int]], *, batch_size: int, pad_id: int, longest: int | None = None
) -> Iterator[RowBatch]:
  """Yields all rows in batches, the short ones first.

  Args:
    rows: token ids.
    batch_size: rows of every batch; fewer if there are fewer rows, rounded up to a power of two;
      and a multiple of the devices that share them.
    pad_id: fills rows up.
    longest: the most tokens that a row may have; None if there is no limit.
  """
  batch_size = rows_of_a_batch(power_of_two(len(rows)), batch_size)

  def bucket(i: int) -> int:
    return bucket_length(len(rows[i]), longest)

  for length, group in itertools.groupby(sorted(range(len(rows)), key=bucket), key=bucket):
    members = list(group)
    for start in range(0, len(members), batch_size):
      indices = members[start : start + batch_size]
      tokens = np.full((batch_size, length), pad_id, np.int32)
      segments = np.zeros((batch_size, length), np.int32)
      for place, i in enumerate(indices):
        tokens[place, : len(rows[i])] = rows[i]
        segments[place, : len(rows[i])] = 1
      yield RowBatch(indices, tokens, segments)


def rows_of_a_batch(count: int, batch_size: int) -> int:
  """Returns how many rows batches of up to `count` rows have, empty ones included.

  It is `batch_size` or fewer, rounded up to a multiple of the devices that share a batch.
  """
  (devices,) = num_shards(("batch",))
  return -(-min(count, batch_size) // devices) * devices


def longest_row(model: Transformer) -> int | None:
  """Returns the most tokens of a row: the learned positions; None where positions have no limit."""
  return model.config.max_length if model.config.positions == "learned" else None


def bucket_length(length: int, longest: int | None = None) -> int:
  """Returns the power of two to which a length is rounded up: at least 16, at most `longest`."""
  rounded = max(_SHORTEST, power_of_two(length))
  return rounded if longest is None else max(length, min(rounded, longest))


def fine_bucket(count: int, limit: int | None = None, least: int = _SHORTEST) -> int:
  """Returns the size to which `count` is rounded up: 16, 24, 32, 48, 64, 96 ..., at most `limit`.

  Twice as many sizes as `bucket_length` has: a program that decodes runs many steps over the
  padding, which costs more than a second compilation.
  """
  size = least
  while size < count:
    half_more = size + size // 2
    size = half_more if half_more >= count else 2 * size
  return size if limit is None else min(size, limit)


def power_of_two(count: int) -> int:
  """Returns the smallest power of two that is at least `count`; 1 for 0."""
  return 1 << max(count - 1, 0).bit_length()
