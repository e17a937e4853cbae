"""Gradients through a soft cap where every logit is far above it, against float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.attention_kernels import cpu_blocks


@pytest.mark.parametrize("kernel", ["xla", "blocked", "blocked in loops"])
def test_gradients_of_saturated_logits(kernel, inputs, pattern, check, monkeypatch):
  """Logits of -7 to -3 and 3 to 7 under a cap of 1."""
  if kernel == "blocked in loops":
    monkeypatch.setattr(cpu_blocks, "_MOST_UNROLLED", 0)
  query, key, *rest = inputs()
  sign = np.where(np.arange(200) % 3, 1, -1)[:, None, None]
  query, key = 1 + 0.1 * jnp.tanh(query), sign * (1.2 + 0.1 * key)
  check(kernel.split()[0], pattern("causal"), [query, key, *rest], soft_cap=1.0)
