"""The operations of arrays.py on NumPy arrays."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray

_NOT_UTF_8 = "\ud800"  # stands for bytes that are not; no UTF-8 has this code point
_NOTED = "t5x_style.noted"  # how such bytes are decoded: their number is kept in _wrong_bytes
_wrong_bytes = threading.local()

minimum, maximum, where = np.minimum, np.maximum, np.where
ceil, sqrt, zeros_like, ones_like, size = np.ceil, np.sqrt, np.zeros_like, np.ones_like, np.size
round = np.rint


def cast(x: Any, dtype: type) -> Array:
  return np.asarray(x).astype(dtype)


def bitcast(x: Array, dtype: type) -> Array:
  return np.asarray(x).view(dtype)


def right_shift(x: Array, bits: int) -> Array:
  return x >> np.uint64(bits)


# TensorFlow's logarithm and cosine of float32 are polynomials of Eigen, whose last bits are others
# than those of NumPy. These are the same polynomials, in the same order of operations
# (GenericPacketMathFunctions.h: plog_impl_float and psincos_float without fused multiply-add, as on
# x86). TensorFlow uses them for eight numbers at once; at the end of a tensor, for up to seven
# numbers, it uses those of the C library, whose last bit may be another.
_SQRT_HALF, _LN_2 = np.float32(0.707106781186547524), np.float32(0.69314718055994530942)
_LOG_ABOVE = (0.18256296349849254, 1.0000000190281063, 1.0000000190281136)
_LOG_BELOW = (0.049616247954120038, 0.59923249590823520, 1.4999999999999927, 1.0)
_TWO_OVER_PI = np.float32(0.636619746685028076171875)
_HALF_PI = (
  -1.5703125,
  -0.000483989715576171875,
  1.62865035235881805419921875e-07,
  5.5644315544167710640977020375430583953857421875e-11,
)
_COS = (
  2.4372266125283204019069671630859375e-05,
  -0.00138865201734006404876708984375,
  0.041666619479656219482421875,
  -0.5,
  1.0,
)
_SIN = (
  -0.0001959234114083702898469196984621021329076029360294342041015625,
  0.00833268736556168516937947998712843400426208972930908203125,
  -0.166666620398229825550373561782180331647396087646484375,
)


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
  result = np.full_like(x, coefficients[0])
  for c in coefficients[1:]:
    result = result * x + np.float32(c)
  return result


def log(x: Array) -> Array:
  fraction, exponent = np.frexp(x)
  low = fraction < _SQRT_HALF
  exponent = exponent.astype(np.float32) - low
  m = (fraction - np.float32(1)) + np.where(low, fraction, np.float32(0))
  ratio = m * _polynomial(m, _LOG_ABOVE) / _polynomial(m, _LOG_BELOW)
  return exponent * _LN_2 + ratio


def cos(x: Array) -> Array:
  quarter = np.rint(x * _TWO_OVER_PI)
  for part in _HALF_PI:
    x = quarter * np.float32(part) + x
  turns, square = quarter.astype(np.int32), x * x
  odd = _polynomial(square, _SIN) * square * x + x
  result = np.where(turns % 2 == 0, _polynomial(square, _COS), odd)
  return np.where((turns + 1) % 4 >= 2, -result, result)


def sum(x: Array) -> Array:
  return np.sum(x, axis=-1, dtype=x.dtype)


def max(x: Array) -> Array:
  return np.max(x, axis=-1)


def any(x: Array) -> Array:
  return np.any(x, axis=-1)


def cumsum(x: Array, exclusive: bool = False) -> Array:
  sums = np.cumsum(x, axis=-1, dtype=x.dtype)
  return sums - x if exclusive else sums


def sort(x: Array) -> Array:
  return np.sort(x, axis=-1)


def argsort(x: Array) -> Array:
  return np.argsort(x, axis=-1, kind="stable").astype(np.int32)


def largest(x: Array, k: int) -> Array:
  n = x.shape[-1]
  if k == 0:
    return x[..., :0]
  if k < n:
    x = np.partition(x, n - k, axis=-1)[..., n - k :]
  return np.sort(x, axis=-1)[..., ::-1][..., :k]


def first_equal(x: Array) -> Array:
  begins = np.ones_like(x, bool)
  begins[:, 1:] = x[:, 1:] != x[:, :-1]
  place = np.arange(x.shape[1], dtype=np.int32)[None, :]
  return np.maximum.accumulate(np.where(begins, place, np.int32(0)), axis=1)


def searchsorted(ascending: Array, values: Array, side: Any = "left") -> Array:
  return np.searchsorted(ascending, values, side=side).astype(np.int32)


def take(table: Any, indices: Array) -> Array:
  return np.asarray(table)[indices]


def take_along(x: Array, indices: Array) -> Array:
  return np.take_along_axis(x, indices, axis=1)


def scatter_add(columns: Array, values: Array, width: int) -> Array:
  rows = len(columns)
  inside = (columns >= 0) & (columns < width)
  flat = (columns + width * np.arange(rows)[:, None])[inside]
  sums = np.bincount(flat, weights=values[inside], minlength=rows * width)
  return sums.astype(values.dtype).reshape(rows, width)


def select(x: Array, mask: Array) -> Array:
  return x[mask]


def indices(mask: Array) -> Array:
  return np.flatnonzero(mask).astype(np.int32)


def concat(parts: Sequence[Array]) -> Array:
  return np.concatenate(parts, axis=-1)


def pad(x: Array, before: int, after: int, value: int = 0) -> Array:
  widths = [(0, 0)] * (x.ndim - 1) + [(before, after)]
  return np.pad(x, widths, constant_values=value)


def interleave(x: Array, y: Array) -> Array:
  return np.stack([x, y], axis=2).reshape(len(x), -1)


def in_rows(x: Array, length: int) -> Array:
  return x.reshape(-1, length)


def flat(x: Array) -> Array:
  return x.reshape(-1)


def shaped(x: Array, like: Array) -> Array:
  return x.reshape(like.shape)


def filled(like: Array, columns: int, value: int | bool | float) -> Array:
  dtypes = {bool: bool, int: np.int32, float: np.float32}
  return np.full((len(like), columns), value, dtypes[type(value)])


def arange(n: int) -> Array:
  return np.arange(n, dtype=np.int32)


def index_of(names: Sequence[str], text: str | bytes) -> Array:
  return np.array(list(names).index(text.decode() if isinstance(text, bytes) else text), np.int32)


def _note_wrong_bytes(error: UnicodeError) -> tuple[str, int]:
  assert isinstance(error, UnicodeDecodeError)
  _wrong_bytes.sizes.append(error.end - error.start)
  return _NOT_UTF_8, error.end


codecs.register_error(_NOTED, _note_wrong_bytes)


def code_points(pieces: Array, indices: Array) -> tuple[Array, Array]:
  _wrong_bytes.sizes = []
  text = b"".join(pieces[indices].tolist()).decode("utf-8", _NOTED)
  characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.int32).copy()
  sizes = 1 + (characters >= 0x80) + (characters >= 0x800) + (characters >= 0x10000)
  replaced = characters == ord(_NOT_UTF_8)
  sizes[replaced] = _wrong_bytes.sizes
  characters[replaced] = 0xFFFD
  return characters, (np.cumsum(sizes) - sizes).astype(np.int32)
