"""Scaled rotary positions: frequencies against the papers and transformers' own code."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import RotaryScaling, attention, rotary_scaling


def test_interpolated_positions_are_those_of_a_shorter_row():
  """Chen et al. 2023, equation 4: position m is rotated as position m / factor was."""
  x = jax.random.normal(jax.random.key(0), (1, 9, 2, 16))
  scaling = RotaryScaling(factor=4.0, kind="linear")
  got = attention.rotate(x, 4 * jnp.arange(9)[None], 500.0, scaling)
  wanted = attention.rotate(x, jnp.arange(9)[None], 500.0)
  np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_yarn_keeps_short_wavelengths_and_interpolates_long_ones():
  """64 tokens hold 10.2 of the shortest wavelengths, 2 pi; of pairs 2 to 5 less than one."""
  scaling = RotaryScaling(factor=8.0, low=1.0, high=10.0, original_length=64, kind="yarn")
  plain = 5.0 ** -jnp.arange(6.0)
  got = rotary_scaling.frequencies(6, 5.0**6, scaling) / plain
  # The ramp begins at the pair that fits 10 times, 0.01, and ends at the one that fits once, 1.44:
  # in whole pairs 0 and 2, with pair 1 in the middle.
  np.testing.assert_allclose(got, [1, 0.5 + 0.5 / 8, *[1 / 8] * 4], rtol=1e-5)


def test_yarn_sharpens_attention():
  """Peng et al. 2023, equation 22: sqrt(1 / t) = 0.1 ln(s) + 1, in queries and in keys."""
  x = jax.random.normal(jax.random.key(0), (1, 5, 2, 16))
  lengths = lambda scaling: (
    np.linalg.norm(attention.rotate(x, jnp.arange(5)[None], 500.0, scaling), axis=-1)
    / np.linalg.norm(x, axis=-1)
  )
  yarn = RotaryScaling(factor=16.0, kind="yarn")
  np.testing.assert_allclose(lengths(yarn), 1 + 0.1 * math.log(16), rtol=1e-5)
  given = RotaryScaling(factor=16.0, kind="yarn", attention_factor=0.75)
  np.testing.assert_allclose(lengths(given), 0.75, rtol=1e-5)
  for kind in ("linear", "llama3"):
    np.testing.assert_allclose(lengths(RotaryScaling(factor=16.0, kind=kind)), 1, rtol=1e-5)


@pytest.mark.parametrize(
  ("pairs", "base", "scaling"),
  [
    (64, 1e6, {"factor": 4.0, "original_length": 32768}),  # Qwen 2.5 and 3
    (32, 1e4, {"factor": 40.0, "original_length": 4096}),  # DeepSeek V3
    (32, 1.5e5, {"factor": 32.0, "original_length": 4096, "high": 8.0, "low": 2.0}),
    (8, 1e4, {"factor": 4.0, "original_length": 64}),  # Few rotations: the ramp begins below 0.
    (8, 10.0, {"factor": 4.0, "original_length": 4096}),  # Many: nothing is interpolated.
    (8, 1e4, {"factor": 4.0, "original_length": 4}),
  ],
)
def test_yarn_is_that_of_transformers(pairs, base, scaling):
  pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

  scaling = RotaryScaling(kind="yarn", **scaling)
  rope = {"rope_type": "yarn", "rope_theta": base, "factor": scaling.factor}
  rope |= {"beta_slow": scaling.low, "beta_fast": scaling.high}
  rope |= {"original_max_position_embeddings": scaling.original_length}
  config = transformers.LlamaConfig(
    hidden_size=2 * pairs,
    num_attention_heads=1,
    head_dim=2 * pairs,
    max_position_embeddings=int(scaling.factor * scaling.original_length),
    rope_parameters=rope,
  )
  wanted, factor = ROPE_INIT_FUNCTIONS["yarn"](config, "cpu")
  got = rotary_scaling.frequencies(pairs, base, scaling)
  np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5)
  assert rotary_scaling.attention_factor(scaling) == pytest.approx(factor)
