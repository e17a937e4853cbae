"""Layouts: a tensor of a file, seen as a parameter."""

import numpy as np
import pytest

from t5x_style.interop.huggingface.tensor_rules import TensorRule, dense

SIZES = {"D": 5, "N": 2, "H": 3, "F": 7}


@pytest.mark.parametrize(
  ("layout", "parts", "shape", "wanted"),
  [
    ("(N H) D -> D N H", 1, (6, 5), lambda x: x.reshape(2, 3, 5).transpose(2, 0, 1)),
    ("D (N H) -> N H D", 1, (5, 6), lambda x: x.reshape(5, 2, 3).transpose(1, 2, 0)),
    ("D (P N H) -> D N H", 3, (5, 18), lambda x: x[:, 6:12].reshape(5, 2, 3)),
    ("(P F) D -> D F", 2, (14, 5), lambda x: x[7:].T),
    ("(P N H) -> N H", 3, (18,), lambda x: x[6:12].reshape(2, 3)),
    ("P F -> F", 1, (1, 7), lambda x: x[0]),
  ],
)
def test_views(layout, parts, shape, wanted):
  rule = TensorRule("x", "y", layout, part=min(1, parts - 1), parts=parts)
  tensor = np.random.default_rng(0).normal(size=shape)
  of_tensor, of_parameter = rule.shapes(SIZES)
  assert of_tensor == shape
  view = rule.view(tensor, SIZES)
  assert view.shape == of_parameter
  np.testing.assert_array_equal(view, wanted(tensor))
  assert np.shares_memory(view, tensor)
  view[...] = 0  # Assigning writes into the tensor.
  assert (tensor == 0).sum() == view.size


@pytest.mark.parametrize(
  ("layout", "bias"),
  [
    ("(N H) D -> D N H", "(N H) -> N H"),
    ("D (N H) -> N H D", "D -> D"),
    ("D (P N H) -> D N H", "(P N H) -> N H"),
    ("(P F) D -> D F", "(P F) -> F"),
    ("E D -> D E", "E -> E"),
  ],
)
def test_a_bias_has_the_dimensions_of_the_output(layout, bias):
  kernel, found = dense("a", "b", layout, bias=True, part=1, parts=3)
  assert (kernel.tensor, found.tensor) == ("b.weight", "b.bias")
  assert found.layout == bias and (found.part, found.parts) == (1, 3)
