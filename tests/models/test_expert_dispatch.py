"""Slots of choices: those of the example, and of random choices against a loop."""

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.models import expert_dispatch


def test_the_example_of_the_docstring():
  experts, counts = jnp.array([1, 0, 1, 1]), jnp.array([1, 3])
  found = expert_dispatch.plan(experts, counts, jnp.array([0, 2]), jnp.array([2, 4]), 4)
  np.testing.assert_array_equal(found.slots, [2, 0, 3, 4])
  np.testing.assert_array_equal(found.choices, [1, 4, 0, 2])


def test_slots_are_given_in_the_order_of_the_choices():
  rng = np.random.default_rng(0)
  for size, room, choices in ((3, 4, 20), (4, 30, 25)):
    experts = rng.integers(0, size + 2, choices)  # Some go to no expert.
    counts = expert_dispatch.count(jnp.asarray(experts), size)
    np.testing.assert_array_equal(counts, np.bincount(experts, minlength=size)[:size])
    starts = np.arange(size) * room
    plan = jax.jit(expert_dispatch.plan, static_argnums=4)
    found = plan(experts, counts, starts, starts + room, size * room + 2)
    none, slots = size * room + 2, []
    inside = np.full(none, choices)
    load = np.zeros(size + 2, int)
    for choice, expert in enumerate(experts):
      slot = starts[expert] + load[expert] if expert < size and load[expert] < room else none
      load[expert] += 1
      slots.append(slot)
      if slot < none:
        inside[slot] = choice
    np.testing.assert_array_equal(found.slots, slots)
    np.testing.assert_array_equal(found.choices, inside)


def test_the_way_to_the_slots_and_back_and_its_gradient():
  """Two tokens with two choices each; the second choice of token 0 has no slot."""
  found = expert_dispatch.Plan(jnp.array([2, 0, 4, 1]), jnp.array([1, 3, 0, 4]))
  x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
  slots = expert_dispatch.to_slots(x, found)
  np.testing.assert_array_equal(slots, [[3, 4], [3, 4], [1, 2], [0, 0]])
  y, weights = jnp.arange(8.0).reshape(4, 2), jnp.array([[0.5, 9.0], [2.0, 3.0]])
  back = expert_dispatch.from_slots(y, found, weights)
  np.testing.assert_array_equal(back, [[2, 2.5], [2 * 0 + 3 * 2, 2 * 1 + 3 * 3]])
  by_x = jax.grad(lambda x: (expert_dispatch.to_slots(x, found) * y).sum())(x)
  np.testing.assert_array_equal(by_x, [[4, 5], [0 + 2, 1 + 3]])
  by_y, by_weights = jax.grad(
    lambda y, w: (expert_dispatch.from_slots(y, found, w) * x).sum(), argnums=(0, 1)
  )(y, weights)
  np.testing.assert_array_equal(by_y, [[6, 8], [9, 12], [0.5, 1], [0, 0]])
  np.testing.assert_array_equal(by_weights, [[4 + 10, 0], [0 + 4, 6 + 12]])
