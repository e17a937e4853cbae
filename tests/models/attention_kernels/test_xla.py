"""The XLA kernel against float64, documents without influence on each other, dropout of weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.attention import attend
from t5x_style.models.attention_kernels.pattern import Pattern, WeightDropout
from t5x_style.models.attention_kernels.select import attention_inputs

RATE = 0.25


def test_every_pattern(any_pattern, inputs, check):
  check("xla", any_pattern, inputs(), with_bias=True, soft_cap=2.0)


@pytest.mark.parametrize(("L", "S", "K"), [(7, 5, 1), (1, 9, 4)])
def test_cross_attention_of_odd_lengths(inputs, pattern, check, L, S, K):
  check("xla", pattern("both ways"), inputs(L, S, K=K))


def test_documents_are_apart(pattern, inputs, check_documents_are_apart):
  check_documents_are_apart("xla", pattern("packed, prefix"), inputs(), with_bias=True)


def test_bfloat16(pattern, inputs, check):
  check("xla", pattern("packed"), inputs(), with_bias=True, dtype="bfloat16", atol=0.02)


def attention_with_dropout(query, key, value, shared=False, seed=0, rate=RATE):
  L, S = query.shape[1], key.shape[1]
  dropout = WeightDropout(jax.random.key(seed), rate, shared) if rate else None
  return attend(query, key, value, attention_inputs(Pattern(), L, S).replace(dropout=dropout))


def left_weights(N=4, K=4, **kwargs):
  """Returns (weights after dropout, softmax) [B, L, N, S]; the values of key s are one-hot."""
  B, L, S = 20, 15, 32
  rng = np.random.default_rng(0)
  query, key = rng.normal(size=(B, L, N, S)), rng.normal(size=(B, S, K, S)) / 4
  value = np.broadcast_to(np.eye(S)[None, :, None], key.shape)
  left = attention_with_dropout(
    *(jnp.asarray(x, jnp.float32) for x in (query, key, value)), **kwargs
  )
  logits = np.einsum("blnh,bsnh->blns", query, np.repeat(key, N // K, axis=2))
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  return np.asarray(left), weights / weights.sum(-1, keepdims=True)


def assert_rate(events, rate):
  assert abs(events.mean() - rate) < 4 * math.sqrt(rate * (1 - rate) / events.size)


@pytest.mark.parametrize("K", [4, 2])
def test_weights_are_dropped_one_by_one_and_the_others_scaled(K):
  left, weights = left_weights(K=K)
  kept = left > 0
  np.testing.assert_allclose(left[kept], (weights / (1 - RATE))[kept], rtol=2e-5)
  assert_rate(~kept, RATE)
  for axis in range(4):  # rows, queries, heads, keys: neighbours are dropped independently.
    first, second = np.delete(kept, -1, axis), np.delete(kept, 0, axis)
    assert_rate(first != second, 2 * RATE * (1 - RATE))


def test_as_t5_all_queries_lose_the_same_keys():
  kept = left_weights(shared=True)[0] > 0
  assert (kept == kept[:, :1]).all()
  assert_rate(~kept[:, 0], RATE)
  assert_rate(kept[:, 0, 1:] != kept[:, 0, :-1], 2 * RATE * (1 - RATE))  # Heads differ.


def test_the_key_decides_what_is_dropped():
  first, again, other = (left_weights(seed=seed)[0] for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert ((first > 0) != (other > 0)).mean() > RATE


@pytest.mark.parametrize("K", [4, 2])
def test_the_gradient_is_that_of_the_weights_that_are_left(inputs, K):
  """Compared with JAX's own gradient of a softmax times the mask, which one-hot values show."""
  query, key, value, cotangent, _ = inputs(24, 16, K=K)
  one_hot = jnp.broadcast_to(jnp.eye(16)[None, :, None], key.shape)
  stays = attention_with_dropout(query, key, one_hot) > 0  # [B, L, N, S]

  def plain(query, key, value):
    key, value = (jnp.repeat(x, 4 // K, axis=2) for x in (key, value))
    weights = jax.nn.softmax(jnp.einsum("blnh,bsnh->blns", query, key))
    return jnp.einsum("blns,bsnh->blnh", jnp.where(stays, weights / (1 - RATE), 0), value)

  wanted, pull = jax.vjp(plain, query, key, value)
  found, own_pull = jax.vjp(attention_with_dropout, query, key, value)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  for own, other in zip(own_pull(cotangent), pull(cotangent), strict=True):
    np.testing.assert_allclose(own, other, atol=1e-5 * abs(other).max())
