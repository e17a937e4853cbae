"""One set of array operations, for NumPy arrays and for TensorFlow's tensors.

Noise, objectives and conversion are written once, with these operations. On NumPy arrays they make
the examples of a token cache, where no TensorFlow is needed; on tensors they are a part of the
stream. Both give the same examples, to the bit:

    xp = arrays.of(tokens)
    shown = xp.where(hidden, mask_id, tokens)

Operators (+, <, &, ...) and slices are those of the arrays themselves. What does not depend on
values is a NumPy array of a fixed dtype, such as `places(n)`: tensors accept it, too. Sums, sorts
and the like are along the last axis. Indices and counts are int32, random bits uint64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from t5x_style.data import numpy_arrays

Array = Any  # np.ndarray or tf.Tensor, whose types mypy does not know
Features = dict[str, Array]


class Arrays(Protocol):
  """The operations; numpy_arrays.py and tf_arrays.py have them as functions."""

  def cast(self, x: Array, dtype: type) -> Array:
    """Returns x in a dtype of NumPy; real numbers lose their fraction."""

  def bitcast(self, x: Array, dtype: type) -> Array:
    """Returns the same bits in another dtype of 64 bits."""

  def right_shift(self, x: Array, bits: int) -> Array:
    """Shifts uint64 to the right; zeros follow."""

  def where(self, condition: Array, x: Array, y: Array) -> Array: ...

  def minimum(self, x: Array, y: Array) -> Array: ...

  def maximum(self, x: Array, y: Array) -> Array: ...

  def round(self, x: Array) -> Array:
    """Rounds to the nearest whole number, halves to the even one."""

  def ceil(self, x: Array) -> Array: ...

  def sqrt(self, x: Array) -> Array: ...

  def log(self, x: Array) -> Array:
    """The natural logarithm of float32 in (0, 1]."""

  def cos(self, x: Array) -> Array:
    """The cosine of float32 in [0, 7]."""

  def sum(self, x: Array) -> Array: ...

  def max(self, x: Array) -> Array: ...

  def any(self, x: Array) -> Array: ...

  def cumsum(self, x: Array, exclusive: bool = False) -> Array:
    """Sums up to each element, itself included unless `exclusive`."""

  def sort(self, x: Array) -> Array: ...

  def argsort(self, x: Array) -> Array:
    """Returns the indices that sort x; equal elements keep their order."""

  def largest(self, x: Array, k: int) -> Array:
    """Returns the k largest elements of each row, the largest first: [B, n] -> [B, k]."""

  def first_equal(self, x: Array) -> Array:
    """Returns where the run of each element begins, in ascending rows: [[4, 4, 7]] -> [[0, 0, 2]].

    int32 [B, n] -> [B, n].
    """

  def searchsorted(self, ascending: Array, values: Array, side: str = "left") -> Array:
    """Returns where values of any shape belong in `ascending`, [K]; side as in NumPy."""

  def take(self, table: Array, indices: Array) -> Array:
    """Returns table[indices]: [K] or [K, ...], and indices of any shape."""

  def take_along(self, x: Array, indices: Array) -> Array:
    """Returns x[b, indices[b]] for each row b: [B, n], [B, k] -> [B, k]."""

  def scatter_add(self, columns: Array, values: Array, width: int) -> Array:
    """Sums `values` [B, K] into [B, width] at `columns` [B, K]; columns outside are dropped."""

  def select(self, x: Array, mask: Array) -> Array:
    """Returns x where the mask is true: [N], [N] -> [n]."""

  def indices(self, mask: Array) -> Array:
    """Returns where a mask [N] is true, int32 [n]."""

  def concat(self, parts: Sequence[Array]) -> Array: ...

  def pad(self, x: Array, before: int, after: Array, value: int = 0) -> Array:
    """Puts `before` and `after` times `value` around the last axis."""

  def interleave(self, x: Array, y: Array) -> Array:
    """Returns x0 y0 x1 y1 ...: [B, n], [B, n] -> [B, 2 n]."""

  def in_rows(self, x: Array, length: int) -> Array:
    """Returns [N] as [N / length, length]."""

  def flat(self, x: Array) -> Array:
    """Returns x as [N]."""

  def shaped(self, x: Array, like: Array) -> Array:
    """Returns x in the shape of another array."""

  def filled(self, like: Array, columns: int, value: int | bool | float) -> Array:
    """Returns [B, columns] of a value, int32, bool or float32; B is that of `like`."""

  def zeros_like(self, x: Array) -> Array: ...

  def ones_like(self, x: Array) -> Array: ...

  def arange(self, n: Array) -> Array:
    """Returns 0, ..., n - 1, int32 [n], for an n that is computed."""

  def size(self, x: Array) -> Array:
    """Returns how many elements there are."""

  def index_of(self, names: Sequence[str], text: Array) -> Array:
    """Returns where `text`, a string, is in `names`, int32 []."""

  def code_points(self, pieces: np.ndarray, indices: Array) -> tuple[Array, Array]:
    """Joins pieces of UTF-8 and reads their characters.

    Args:
      pieces: bytes [K].
      indices: int32 [N] of those that are joined.

    Returns:
      int32 [C] code points, U+FFFD for bytes that are not UTF-8, and the offsets of their first
      bytes, int32 [C].
    """


def of(*values: Array) -> Arrays:
  """Returns the operations for some arrays: TensorFlow's if one of them is a tensor."""
  if all(isinstance(x, np.ndarray | np.generic | int | bytes | str) for x in values):
    return numpy_arrays
  from t5x_style.data import tf_arrays  # A caller with a tensor has imported TensorFlow.

  return tf_arrays


def places(n: int) -> np.ndarray:
  """Returns [[0, ..., n - 1]], int32 [1, n]: the place of each token in its row."""
  return np.arange(n, dtype=np.int32)[None, :]
