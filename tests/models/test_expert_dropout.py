"""Dropout inside experts: its rate, and that an element does not depend on the others."""

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.models import expert_dropout

KEY = jnp.array([3, 4], jnp.uint32)


def drop(x, rate=0.25, key=KEY, choices=None, first=0):
  if choices is None:
    choices = expert_dropout.choice_numbers((len(x), 1, 1)).reshape(-1)
  return np.asarray(jax.jit(expert_dropout.drop, static_argnums=1)(x, rate, key, choices, first))


def test_elements_are_dropped_at_the_rate_and_the_others_scaled():
  x = jnp.ones((400, 500))
  y = drop(x)
  assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
  kept = y > 0
  # Four deviations of the mean of this many draws, of all, of a row and of a column.
  assert abs(kept.mean() - 0.75) < 4 * (0.1875 / kept.size) ** 0.5
  assert np.abs(kept.mean(0) - 0.75).max() < 5 * (0.1875 / 400) ** 0.5
  assert np.abs(kept.mean(1) - 0.75).max() < 5 * (0.1875 / 500) ** 0.5
  # Neighbours and other keys are independent.
  for other in (kept[1:, :], kept[:, 1:], drop(x, key=KEY[::-1]) > 0):
    same = kept[: len(other), : other.shape[1]] & other
    assert abs(same.mean() - 0.75**2) < 4 * (0.25 / same.size) ** 0.5


def test_a_tiny_rate_drops_nothing():
  assert (drop(jnp.ones((4, 5)), rate=1e-10) == 1).all()


def test_a_part_is_what_it_is_in_the_whole():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 10)), jnp.bfloat16)
  whole = drop(x)
  rows = np.array([4, 0, 3])
  part = drop(x[rows][:, 4:], choices=jnp.asarray(rows, jnp.uint32), first=4)
  assert part.dtype == x.dtype
  np.testing.assert_array_equal(part, whole[rows][:, 4:])


def test_every_choice_has_a_number():
  numbers = expert_dropout.choice_numbers((2, 3, 2))
  assert numbers.shape == (2, 3, 2)
  assert len(np.unique(numbers)) == 12
