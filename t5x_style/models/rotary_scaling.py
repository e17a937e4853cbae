"""The frequencies of rotary positions, scaled for rows longer than those of the first training."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.models.config import RotaryScaling


def frequencies(pairs: int, base: float, scaling: RotaryScaling | None = None) -> jax.Array:
  """Returns the angle in radians by which each pair of a head turns per token, float32 [pairs].

  Args:
    pairs: half of the width of a head.
    base: unscaled wavelengths grow geometrically from 2 pi to 2 pi base, in tokens.
    scaling: None leaves them as they are.
  """
  unscaled = base ** (-jnp.arange(pairs, dtype=jnp.float32) / pairs)
  if scaling is None:
    return unscaled
  if scaling.kind == "linear":
    return unscaled / scaling.factor
  kept = _yarn(pairs, base, scaling) if scaling.kind == "yarn" else _llama3(unscaled, scaling)
  return unscaled * (kept + (1.0 - kept) / scaling.factor)


def attention_factor(scaling: RotaryScaling | None) -> float:
  """Returns the factor of rotated queries and keys, 1 unless the scaling is YaRN's.

  The logits become larger by its square: Peng et al. 2023, section 3.4, where it is sqrt(1 / t).
  """
  if scaling is None or scaling.kind != "yarn":
    return 1.0
  if scaling.attention_factor is not None:
    return scaling.attention_factor
  return 0.1 * math.log(max(scaling.factor, 1.0)) + 1.0


def _llama3(unscaled: jax.Array, scaling: RotaryScaling) -> jax.Array:
  """Returns how much of each frequency is kept: linear in how often its wavelength fits."""
  assert scaling.high is not None
  fits = scaling.original_length * unscaled / (2 * np.pi)
  return jnp.clip((fits - scaling.low) / (scaling.high - scaling.low), 0.0, 1.0)


def _yarn(pairs: int, base: float, scaling: RotaryScaling) -> jax.Array:
  """Returns how much of each frequency is kept: linear in the index of the pair.

  The paper (section 3.2) has a ramp that is linear in how often the wavelength fits. This is the
  ramp of its authors' code, with bounds at whole pairs, with which YaRN models were trained and
  which transformers computes.
  """

  def pair_that_fits(times: float) -> float:
    return pairs * math.log(scaling.original_length / (times * 2 * math.pi)) / math.log(base)

  assert scaling.high is not None
  first = max(math.floor(pair_that_fits(scaling.high)), 0)
  last = min(math.ceil(pair_that_fits(scaling.low)), 2 * pairs - 1)
  width = last - first or 0.001  # A width of 0 is a step.
  return 1.0 - jnp.clip((jnp.arange(pairs, dtype=jnp.float32) - first) / width, 0.0, 1.0)
