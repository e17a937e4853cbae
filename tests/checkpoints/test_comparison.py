"""Differences between arrays, compared with NumPy's on the whole arrays."""

import math

import ml_dtypes
import numpy as np
import pytest

from t5x_style.checkpoints import array_pieces, comparison
from t5x_style.checkpoints.arrays import LazyArray
from t5x_style.errors import UserError

DRAW = np.random.default_rng(0)
KERNEL = DRAW.normal(size=(3, 40, 50)).astype(np.float32)
OTHER = (KERNEL + DRAW.normal(size=KERNEL.shape) * 1e-2).astype(np.float32)


def chunked(array, *chunk):
  return LazyArray(array.shape, array.dtype, lambda index: array[index], chunk)


def compare(first, second):
  lazy = (
    {k: x if isinstance(x, LazyArray) else LazyArray.in_memory(x) for k, x in tree.items()}
    for tree in (first, second)
  )
  return comparison.compare(*lazy, labels=("a", "b"))


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_measures_are_those_of_the_whole_arrays(dtype, monkeypatch):
  monkeypatch.setattr(array_pieces, "PIECE_BYTES", 1000)
  monkeypatch.setattr(comparison, "_BLOCK", 64)
  a, b = KERNEL.astype(dtype), OTHER.astype(dtype)
  (found,) = compare({"x": chunked(a, 1, 7, 50)}, {"x": chunked(b, 2, 40, 3)})
  x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
  assert not found.equal and found.sums.numbers == x.size
  assert found.sums.largest == np.abs(x - y).max()
  norm = np.linalg.norm
  assert math.isclose(found.sums.relative_norm, norm(x - y) / norm(x), rel_tol=1e-12)
  assert math.isclose(found.sums.cosine, x @ y / norm(x) / norm(y), rel_tol=1e-12)


def test_equal_is_equal_to_the_bit():
  special = np.array([0.0, np.nan, np.inf, 1.0], np.float32)
  (found,) = compare({"x": special}, {"x": special.copy()})
  assert found.equal and found.sums.largest == 0 and found.sums.relative_norm == 0
  for place, value in ((0, -0.0), (3, np.nextafter(np.float32(1), np.float32(2)))):
    other = special.copy()
    other[place] = value
    (found,) = compare({"x": special}, {"x": other})
    assert not found.equal and found.how_much > 0
  (found,) = compare({"x": np.arange(3)}, {"x": np.arange(3.0)})
  assert not found.equal and found.sums.largest == 0
  assert (found.first[1], found.second[1]) == ("int64", "float64")
  (found,) = compare({"x": np.int32(3)[()]}, {"x": np.int32(5)[()]})
  assert found.sums.largest == 2


def test_the_most_different_come_first_and_equal_ones_last():
  first = {"a": KERNEL, "b": KERNEL, "c": KERNEL, "d": KERNEL, "e": KERNEL}
  second = {"a": KERNEL, "b": OTHER, "c": OTHER * 2, "d": KERNEL[:2], "f": KERNEL}
  found = compare(first, second)
  assert [x.name for x in found] == ["d", "e", "f", "c", "b", "a"]
  assert found[0].sums is None and found[0].second == ((2, 40, 50), "float32")
  assert found[1].second is None and found[2].first is None
  spoilt = KERNEL.copy()
  spoilt[0, 0, 0] = np.nan
  (found,) = compare({"x": KERNEL}, {"x": spoilt})
  assert math.isnan(found.sums.largest) and found.how_much == math.inf


def test_totals_are_those_of_all_floating_point_arrays_together():
  found = compare(
    {"p/a": KERNEL, "p/b": OTHER, "q": KERNEL, "p/count": np.arange(9)},
    {"p/a": OTHER, "p/b": OTHER, "q": KERNEL * 9, "p/count": np.arange(9) + 10**6},
  )
  sums = comparison.total(found, "p/")
  x = np.concatenate([KERNEL.ravel(), OTHER.ravel()]).astype(np.float64)
  y = np.concatenate([OTHER.ravel(), OTHER.ravel()]).astype(np.float64)
  assert sums.numbers == x.size
  assert math.isclose(sums.relative_norm, np.linalg.norm(x - y) / np.linalg.norm(x), rel_tol=1e-12)
  assert comparison.total(found).largest == np.abs(KERNEL - KERNEL * 9).max()


def test_zeros_have_no_angle_and_no_relative_difference():
  zeros = np.zeros(4, np.float32)
  (found,) = compare({"x": zeros}, {"x": zeros + 1})
  assert found.sums.relative_norm == math.inf and math.isnan(found.sums.cosine)


def test_scanned_and_unrolled_layers_are_compared_layer_by_layer():
  scanned = {"decoder/layers/mlp/kernel": KERNEL, "head": OTHER}
  unrolled = {f"decoder/layers_{i}/mlp/kernel": KERNEL[i] for i in range(3)} | {"head": OTHER}
  unrolled["decoder/layers_1/mlp/kernel"] = OTHER[1]
  lazy = ({k: LazyArray.in_memory(x) for k, x in tree.items()} for tree in (scanned, unrolled))
  first, second = comparison.in_one_layout(*lazy)
  found = comparison.compare(first, second, ("a", "b"))
  assert [x.name for x in found if not x.equal] == ["decoder/layers_1/mlp/kernel"]
  assert len(found) == 4
  other = {"decoder/layers_0/mlp/kernel": LazyArray.in_memory(KERNEL[0])}
  assert comparison.in_one_layout(first, other) == (first, other)  # Another number of layers.


def test_what_cannot_be_read_is_named():
  def fetch(index):
    raise ValueError("DATA_LOSS: checksum")

  damaged = LazyArray(KERNEL.shape, KERNEL.dtype, fetch)
  with pytest.raises(UserError, match="^b: the array x cannot be read: .*DATA_LOSS"):
    compare({"x": KERNEL}, {"x": damaged})


def test_progress_is_told_of_all_bytes():
  sizes = []
  arrays = {"x": chunked(KERNEL, 1, 40, 50), "y": LazyArray.in_memory(OTHER)}
  comparison.compare(arrays, arrays, ("a", "b"), sizes.append)
  assert sum(sizes) == 2 * comparison.bytes_of(arrays) == 4 * KERNEL.nbytes
