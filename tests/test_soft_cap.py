"""The soft cap and its slope against float64, from logits of zero to far above the cap."""

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.soft_cap import soft_capped


def test_values_and_slopes():
  logits = np.linspace(-100, 100, 801)
  value, pull = jax.vjp(lambda x: soft_capped(x, 5.0), jnp.asarray(logits, jnp.float32))
  np.testing.assert_allclose(value, 5 * np.tanh(logits / 5), rtol=1e-6)
  (slope,) = pull(jnp.ones_like(value))
  np.testing.assert_allclose(slope, 1 / np.cosh(logits / 5) ** 2, rtol=1e-5)
