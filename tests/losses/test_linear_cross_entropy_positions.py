"""Positions that carry loss: all are found, in order, padded to a static number."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.losses import gather_targets, linear_cross_entropy, positions_with_loss


def test_example_of_the_docstring():
  positions = positions_with_loss(np.array([[0, 1, 0, 1, 0.0]]), 3)
  np.testing.assert_array_equal(positions, [[1, 3, 0]])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_all_positions_with_loss_in_order_then_others(data):
  length = data.draw(st.integers(1, 12))
  most = data.draw(st.integers(1, 14))
  row = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=length, max_size=length)
  weights = np.array(data.draw(st.lists(row, min_size=1, max_size=4)), np.float32)
  positions = np.asarray(positions_with_loss(weights, most))
  assert positions.shape == (len(weights), min(most, length))
  for chosen, of_row in zip(positions, weights, strict=True):
    wanted = np.flatnonzero(of_row)[:most]
    np.testing.assert_array_equal(chosen[: len(wanted)], wanted)
    assert np.all(of_row[chosen[len(wanted) :]] == 0)
    assert len(set(chosen)) == len(chosen)


def test_the_loss_on_positions_with_loss_is_the_loss(random_inputs, assert_near):
  """Values and gradients are the same: positions that are left out carry no loss."""
  hidden, kernel, bias, targets, weights = random_inputs((4, 40), 8, 30)
  weights *= np.random.default_rng(0).random(weights.shape) < 0.15

  def whole(hidden, kernel):
    return linear_cross_entropy(hidden, kernel, targets, weights, bias=bias)[0]

  def gathered(hidden, kernel):
    positions, (chosen, scales) = gather_targets((targets, weights), weights, 16)
    hidden = jax.numpy.take_along_axis(hidden, positions[..., None], axis=1)
    return linear_cross_entropy(hidden, kernel, chosen, scales, bias=bias)[0]

  expected = jax.value_and_grad(whole, (0, 1))(hidden, kernel)
  got = jax.jit(jax.value_and_grad(gathered, (0, 1)))(hidden, kernel)
  jax.tree.map(lambda x, y: assert_near(x, y, 1e-5), got, expected)


def test_no_positions_is_a_mistake():
  with pytest.raises(ValueError, match="max_targets = 0"):
    positions_with_loss(np.ones((2, 3)), 0)
