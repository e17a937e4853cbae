"""Layers by name however they are stored, and tables with more rows."""

import numpy as np

from t5x_style.checkpoints.arrays import LazyArray
from t5x_style.checkpoints.single_layers import (
  enlarged,
  natural,
  single_layer_shapes,
  unrolled,
  unrolled_names,
)


def test_every_single_layer_has_its_shape_and_its_values():
  """One unrolled layer, then two cycles of two: five layers."""
  stacked = np.arange(2 * 3.0).reshape(2, 3)
  arrays = {
    "encoder/layers_0/x": np.full(3, -1.0),
    "encoder/layers/block_0/x": stacked,
    "encoder/layers/block_1/x": stacked + 10,
    "encoder/final_norm/scale": np.ones(4),
  }
  shapes = {name: x.shape for name, x in arrays.items()}
  single = single_layer_shapes(shapes, unrolled_names(shapes))
  layers = [f"encoder/layers_{i}/x" for i in range(5)]
  assert single == dict.fromkeys(layers, (3,)) | {"encoder/final_norm/scale": (4,)}
  found = unrolled({k: LazyArray.in_memory(x) for k, x in arrays.items()}, shared=False)
  assert found.keys() == single.keys()
  first = [found[name].read()[0] for name in layers]
  assert first == [-1, 0, 10, 3, 13]


def test_larger_tables_end_with_the_mean_row():
  table = LazyArray.in_memory(np.array([[1.0, 2], [3, 6]], np.float32))
  larger = enlarged(table, (4, 2), 0)
  assert larger.shape == (4, 2)
  np.testing.assert_array_equal(larger.read(), [[1, 2], [3, 6], [2, 4], [2, 4]])
  np.testing.assert_array_equal(enlarged(table, (2, 3), 1).read(), [[1, 2, 1.5], [3, 6, 4.5]])
  assert enlarged(table, (1, 2), 0) is None
  assert enlarged(table, (4, 3), 0) is None


def test_layers_are_sorted_by_number():
  assert sorted(["layers_10", "layers_2"], key=natural) == ["layers_2", "layers_10"]
