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
