"""The loss that balances experts, against the sums of Switch's equations written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.losses import expert_balance


def by_token(probabilities, per_token):
  """Returns E * sum of f_e P_e of one layer's tokens, whose probabilities are [tokens, E]."""
  size, total = len(probabilities[0]), 0.0
  for expert in range(size):
    share = np.mean([sorted(p)[-per_token] <= p[expert] for p in probabilities])
    total += share * np.mean([p[expert] for p in probabilities])
  return size * total


@pytest.mark.parametrize("per_token", [1, 2])
def test_it_is_the_formula_of_switch(per_token):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 50, 6))
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  chosen = (p >= np.sort(p, -1)[..., -per_token, None]).sum(1)
  layers = [by_token(one, per_token) for one in p]
  tokens = np.full(3, 50.0)
  got = expert_balance(jnp.asarray(chosen, jnp.float32), p.sum(1), tokens)
  assert got == pytest.approx(sum(layers), rel=1e-5)
  pooled = expert_balance(jnp.asarray(chosen, jnp.float32), p.sum(1), tokens, pooled=True)
  assert pooled == pytest.approx(by_token(p.reshape(-1, 6), per_token), rel=1e-5)


def test_the_example_of_the_docstring_and_its_gradient():
  chosen, p, tokens = jnp.array([[3.0, 1.0]]), jnp.array([[2.5, 1.5]]), jnp.array([4.0])
  value, by_p = jax.value_and_grad(expert_balance, argnums=1)(chosen, p, tokens)
  assert value == 1.125
  np.testing.assert_allclose(by_p, [[2 * 3 / 16, 2 * 1 / 16]])
  np.testing.assert_array_equal(jax.grad(expert_balance)(chosen, p, tokens), [[0, 0]])


def test_balanced_experts_give_the_number_of_experts_per_token():
  even = jnp.full((1, 8), 12.0)
  assert expert_balance(even, even / 3, jnp.array([32.0])) == pytest.approx(3.0)


def test_no_tokens_give_zero():
  assert expert_balance(jnp.zeros((2, 4)), jnp.zeros((2, 4)), jnp.zeros(2)) == 0
