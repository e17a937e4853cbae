"""How large arrays are cut into pieces, so that no array is ever in memory as a whole."""

import itertools
import math
from collections.abc import Iterator, Sequence

Index = tuple[slice, ...]

PIECE_BYTES = 1 << 26  # 64 MiB


def pieces(shape: Sequence[int], piece: Sequence[int]) -> Iterator[Index]:
  """Yields the indices of the pieces that an array is cut into; the last may be smaller."""
  steps = [
    [slice(begin, min(begin + size, n)) for begin in range(0, n, size)]
    for n, size in zip(shape, piece, strict=True)
  ]
  yield from itertools.product(*steps)


def piece_shape(shape: Sequence[int], itemsize: int, axis: int) -> tuple[int, ...]:
  """Returns the shape of pieces of at most PIECE_BYTES, cut along one axis.

  Args:
    itemsize: bytes of one number.
  """
  row = math.prod(shape) // shape[axis] * itemsize
  size = min(shape[axis], max(1, PIECE_BYTES // row))
  return (*shape[:axis], size, *shape[axis + 1 :])


def grouped_shape(shape: Sequence[int], chunk: Sequence[int], itemsize: int) -> tuple[int, ...]:
  """Returns the shape of pieces of whole chunks, of at most PIECE_BYTES if more than one chunk.

  Many small chunks, as a state that many devices share is stored in, are read faster together.

  Args:
    chunk: the shape of the parts that are stored on their own.
    itemsize: bytes of one number.
  """
  group = list(chunk)
  for axis in reversed(range(len(shape))):
    most = max(1, PIECE_BYTES // max(1, math.prod(group) * itemsize))
    group[axis] = min(shape[axis], chunk[axis] * most)
  return tuple(group)
