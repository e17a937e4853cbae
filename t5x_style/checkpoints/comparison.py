"""Compares the arrays of two checkpoints; only a piece of each is in memory at a time."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from t5x_style.checkpoints.array_pieces import Index
from t5x_style.checkpoints.arrays import LazyArray
from t5x_style.checkpoints.damage import damage_is_named
from t5x_style.checkpoints.single_layers import unrolled

_BLOCK = 1 << 17  # numbers that are compared at once; they stay in the processor's cache


class Sums(NamedTuple):
  """What two arrays a and b differ by, over the numbers compared so far, in float64."""

  numbers: int
  largest: float  # max |a - b|; NaN if a number that differs is NaN
  squared: float  # sum of (a - b)^2
  first: float  # sum of a^2
  second: float  # sum of b^2
  product: float  # sum of a b

  def __add__(self, other: "Sums") -> "Sums":  # type: ignore[override]
    largest = float(np.maximum(self.largest, other.largest))  # which keeps NaN
    numbers = self.numbers + other.numbers
    return Sums(numbers, largest, *(x + y for x, y in zip(self[2:], other[2:], strict=True)))

  @property
  def relative_norm(self) -> float:
    """Returns |a - b| / |a|, of Euclidean norms; infinity where only a is zero."""
    if self.squared == 0:
      return 0.0
    return math.sqrt(self.squared / self.first) if self.first else math.inf

  @property
  def cosine(self) -> float:
    """Returns the cosine of the angle between a and b; NaN where one of them is zero."""
    norms = math.sqrt(self.first) * math.sqrt(self.second)
    return min(1.0, max(-1.0, self.product / norms)) if norms else math.nan


NONE = Sums(0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Difference:
  """How an array of one checkpoint differs from that of the same name in another.

  Attributes:
    first, second: shape and dtype in each; None where there is no such array.
    equal: whether all bits are equal.
    sums: None where the shapes differ.
  """

  name: str
  first: tuple[tuple[int, ...], str] | None
  second: tuple[tuple[int, ...], str] | None
  equal: bool
  sums: Sums | None

  @property
  def how_much(self) -> float:
    """Returns a number to sort by: 0 for equal arrays, infinity for those of different shapes."""
    if self.equal:
      return 0.0
    relative = self.sums.relative_norm if self.sums else math.inf
    return math.inf if math.isnan(relative) else max(relative, 5e-324)  # -0.0 is not 0.0


def compare(
  first: Mapping[str, LazyArray],
  second: Mapping[str, LazyArray],
  labels: tuple[str, str],
  read: Callable[[int], None] = lambda size: None,
) -> list[Difference]:
  """Compares all arrays of two checkpoints by name.

  Args:
    labels: what the two are called in messages.
    read: called with the bytes that were just read, of both together.

  Returns:
    The differences, the largest relative norm first; arrays that only one of them has or whose
    shapes differ come before all others.

  Raises:
    UserError: an array cannot be read.
  """
  found = [
    _compare_array(name, first.get(name), second.get(name), labels, read)
    for name in sorted(first.keys() | second.keys())
  ]
  return sorted(found, key=lambda difference: -difference.how_much)


def total(differences: Iterable[Difference], start: str = "") -> Sums:
  """Returns the sums over the arrays that were compared.

  Counts and random keys, which are integers, are left out: they would outweigh all others.

  Args:
    start: only arrays whose names begin with this.
  """
  kept = (x for x in differences if x.name.startswith(start) and x.first and "float" in x.first[1])
  return sum((difference.sums for difference in kept if difference.sums), NONE)


def in_one_layout(
  first: Mapping[str, LazyArray], second: Mapping[str, LazyArray]
) -> tuple[Mapping[str, LazyArray], Mapping[str, LazyArray]]:
  """Takes scanned layers apart if one checkpoint has scanned and the other unrolled layers."""
  if first.keys() == second.keys():
    return first, second
  apart = unrolled(first, shared=False), unrolled(second, shared=False)
  return apart if apart[0].keys() == apart[1].keys() else (first, second)


def bytes_of(arrays: Mapping[str, LazyArray]) -> int:
  return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays.values())


def _compare_array(
  name: str,
  first: LazyArray | None,
  second: LazyArray | None,
  labels: tuple[str, str],
  read: Callable[[int], None],
) -> Difference:
  described = _described(first), _described(second)
  if not first or not second or first.shape != second.shape:
    return Difference(name, *described, equal=False, sums=None)
  equal, sums = first.dtype == second.dtype, NONE
  larger = max(first, second, key=lambda array: math.prod(array.chunk or array.shape))
  for index in larger.groups():
    a, b = (
      _read(array, index, f"{label}: the array {name} cannot be read")
      for array, label in zip((first, second), labels, strict=True)
    )
    same = a.dtype == b.dtype and _same_bits(a, b)
    equal, sums = equal and same, sums + _sums(a, b, same)
    read(a.nbytes + b.nbytes)
  return Difference(name, *described, equal, sums)


def _described(array: LazyArray | None) -> tuple[tuple[int, ...], str] | None:
  return (array.shape, array.dtype.name) if array else None


def _read(array: LazyArray, index: Index, label: str) -> np.ndarray:
  with damage_is_named(label):
    return np.ascontiguousarray(array.fetch(index))


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
  unsigned = f"uint{8 * a.dtype.itemsize}"
  return bool(np.array_equal(a.view(unsigned), b.view(unsigned)))


def _sums(a: np.ndarray, b: np.ndarray, same: bool) -> Sums:
  a, b = a.reshape(-1), b.reshape(-1)
  blocks = [slice(begin, begin + _BLOCK) for begin in range(0, a.size, _BLOCK)]
  return sum((_sums_of_block(a[block], b[block], same) for block in blocks), NONE)


def _sums_of_block(a: np.ndarray, b: np.ndarray, same: bool) -> Sums:
  with np.errstate(invalid="ignore"):  # infinity - infinity
    x = a.astype(np.float64)
    if same:  # Also where they hold NaN.
      square = float(np.dot(x, x))
      return Sums(x.size, 0.0, 0.0, square, square, square)
    y = b.astype(np.float64)
    first, second, product = (float(np.dot(*pair)) for pair in ((x, x), (y, y), (x, y)))
    x -= y
    return Sums(x.size, float(np.abs(x).max()), float(np.dot(x, x)), first, second, product)
