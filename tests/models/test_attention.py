"""Attention against float64, and position encodings by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import RotaryScaling, attention
from t5x_style.models.attention_kernels.pattern import Pattern
from t5x_style.models.attention_kernels.select import attention_inputs


def reference(query, key, value, mask, bias, scale):
  """Returns attention in float64, computed head by head and row by row."""
  query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
  out = np.zeros(query.shape)
  groups = query.shape[2] // key.shape[2]
  for b, n in itertools.product(range(query.shape[0]), range(query.shape[2])):
    logits = scale * query[b, :, n] @ key[b, :, n // groups].T
    if bias is not None:
      logits = logits + np.asarray(bias, np.float64)[0, n]
    if mask is not None:
      logits = np.where(
        np.broadcast_to(mask, (query.shape[0], 1, *logits.shape))[b, 0], logits, -np.inf
      )
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    out[b, :, n] = weights / weights.sum(-1, keepdims=True) @ value[b, :, n // groups]
  return out


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_attend_equals_float64_reference(kv_heads, causal):
  rng = np.random.default_rng(0)
  query = rng.normal(size=(2, 5, 4, 8)).astype(np.float32)
  key, value = rng.normal(size=(2, 2, 7, kv_heads, 8)).astype(np.float32)
  bias = rng.normal(size=(1, 4, 5, 7)).astype(np.float32)
  shared = attention_inputs(Pattern(causal=causal), 5, 7, bias)
  got = attention.attend(query, key, value, shared, scale=0.3)
  np.testing.assert_allclose(got, reference(query, key, value, shared.mask, bias, 0.3), atol=2e-6)


def test_the_soft_cap_comes_before_the_bias():
  query, key = jnp.full((1, 1, 1, 1), 3.0), jnp.array([0.0, 50.0])[None, :, None, None]
  value = jnp.array([0.0, 1.0])[None, :, None, None]
  bias = jnp.array([3.0, 0.0])[None, None, None]
  shared = attention_inputs(Pattern(), 1, 2, bias)
  got = attention.attend(query, key, value, shared, soft_cap=2.0)
  assert float(got.squeeze()) == pytest.approx(float(jax.nn.sigmoid(2.0 - 3.0)), abs=1e-6)


def test_relative_buckets_by_hand():
  # T5's 32 buckets up to distance 128: causal ones are exact below 16, bidirectional ones below 8.
  causal = attention.relative_buckets(-jnp.array([0, 1, 15, 16, 64, 128, 1000]), False, 32, 128)
  np.testing.assert_array_equal(causal, [0, 1, 15, 16, 26, 31, 31])
  assert attention.relative_buckets(jnp.array([5]), False, 32, 128)[0] == 0  # the future
  both = attention.relative_buckets(jnp.array([-1, 1, -7, 7, -8, 500]), True, 32, 128)
  np.testing.assert_array_equal(both, [1, 17, 7, 23, 8, 31])


def test_rotary_keeps_length_and_depends_on_distance_only():
  x, y = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 16))

  def product(i, j):
    a = attention.rotate(x, jnp.array([[i]]), 10_000.0)
    b = attention.rotate(y, jnp.array([[j]]), 10_000.0)
    return float((a * b).sum())

  assert product(3, 10) == pytest.approx(product(103, 110), abs=1e-4)
  assert product(3, 10) != pytest.approx(product(3, 12), abs=1e-2)
  rotated = attention.rotate(x, jnp.array([[57]]), 10_000.0)
  assert float(jnp.linalg.norm(rotated)) == pytest.approx(float(jnp.linalg.norm(x)), rel=1e-5)


def test_rotary_scaling_changes_only_long_wavelengths():
  """Llama 3.1: of two pairs, the second rotates so slowly that it becomes 8 times slower."""
  x = jnp.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
  scaling = RotaryScaling(factor=8.0, original_length=1000)
  # Wavelengths 2 pi and 2 pi 10^4 tokens; 1000 tokens hold 159 and 0.016 of them.
  got = attention.rotate(x, jnp.array([[5]]), 1e8, scaling).reshape(4)
  angles = np.array([5.0, 5.0 / 1e4 / 8])
  np.testing.assert_allclose(got, [*np.cos(angles), *np.sin(angles)], atol=1e-6)
  # A wavelength that fits 2.5 times into 1000 tokens, halfway from 1 to 4, is scaled half.
  base = (2.5 * 2 * np.pi / 1000) ** -2
  got = attention.rotate(x, jnp.array([[5]]), base, scaling).reshape(4)
  angle = 5 * base**-0.5 * (0.5 + 0.5 / 8)
  assert float(got[3]) == pytest.approx(np.sin(angle), abs=1e-6)
