"""Permutations that are computed place by place, so that a shuffle of any size needs no memory.

A Feistel network permutes the numbers of a power of two (Luby and Rackoff 1988). Numbers beyond the
size are permuted again until they are below it, which keeps the permutation one to one ("cycle
walking", Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

from __future__ import annotations

import numpy as np

from t5x_style.data import noise

# Enough for small sizes, too, where few rounds would leave a pattern; even, so that both halves
# have their widths again at the end.
_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15


def permuted(places: np.ndarray, size: int, key: np.ndarray | int) -> np.ndarray:
  """Returns the number at each place of a permutation of 0, ..., size - 1.

  Args:
    places: int64 [n], each below `size`.
    size: of the permutation, at least 1.
    key: which permutation; uint64 [] or [n].

  Returns:
    int64 [n].
  """
  bits = max(2, (size - 1).bit_length())
  keys = np.broadcast_to(np.asarray(key, np.uint64), places.shape)
  result = _network(places.astype(np.uint64), bits, keys)
  outside = np.flatnonzero(result >= size)
  while outside.size:
    result[outside] = _network(result[outside], bits, keys[outside])
    outside = outside[result[outside] >= size]
  return result.astype(np.int64)


def _network(values: np.ndarray, bits: int, keys: np.ndarray) -> np.ndarray:
  """uint64 [n], below 2^bits -> [n]."""
  right = bits // 2
  left = bits - right
  high, low = values >> np.uint64(right), values & _mask(right)
  for number in range(_ROUNDS):
    width = left if number % 2 == 0 else right
    high, low = low, high ^ (_scrambled(low, keys, number) & _mask(width))
  return high << np.uint64(right) | low


def _scrambled(half: np.ndarray, keys: np.ndarray, number: int) -> np.ndarray:
  label = np.uint64((number + 1) * _GOLDEN & 0xFFFFFFFFFFFFFFFF)
  return noise.mix(half ^ noise.mix(keys ^ label))


def _mask(width: int) -> np.uint64:
  return np.uint64((1 << width) - 1)
