"""Learning-rate schedules: functions from the number of steps taken to the rate.

A linear warm-up of W steps starts at a rate of 0, as BERT's and that of transformers do: the first
step of a run fills the optimizer's moments and leaves the parameters as they are. With
`warmup_from_zero` = False it starts at peak / (W + 1), as nanoGPT's does, and no step is without
effect. Either way step W + 1 is the first one at the peak.
"""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from t5x_style.setting_types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt

Schedule = Callable[[jax.Array], jax.Array]  # The number of steps taken -> the rate.


def _check(warmup_steps: int, total_steps: int | None = None) -> None:
  if total_steps is not None and warmup_steps >= total_steps:
    # This is right for a trial of a few steps, and a mistake in a real run.
    warnings.warn(
      f"The run ends within its warm-up: TRAIN_STEPS = {total_steps}, "
      f"WARMUP_STEPS = {warmup_steps}.",
      stacklevel=1,
    )


def _warm_up(rate: float, steps: int, from_zero: bool) -> Schedule:
  """Returns rate * step / steps, or rate * (step + 1) / (steps + 1); `step` counts from 0."""
  return optax.linear_schedule(0.0 if from_zero else rate / (steps + 1), rate, steps)


def rsqrt(base: NonNegativeFloat = 1.0, warmup_steps: NonNegativeInt = 10_000) -> Schedule:
  """Returns T5's base / sqrt(max(step, warmup_steps)) (Raffel 2019, section 3.1.2)."""
  _check(warmup_steps)

  def schedule(step):
    return base / jnp.sqrt(jnp.maximum(step, max(warmup_steps, 1)).astype(jnp.float32))

  return schedule


def linear(
  peak: NonNegativeFloat,
  total_steps: PositiveInt,
  warmup_steps: NonNegativeInt = 0,
  final_fraction: Fraction = 0.0,
  warmup_from_zero: bool = True,
) -> Schedule:
  """Returns a linear warm-up to `peak`, then a linear decay to final_fraction * peak at the end."""
  _check(warmup_steps, total_steps)
  return optax.join_schedules(
    [
      _warm_up(peak, warmup_steps, warmup_from_zero),
      optax.linear_schedule(peak, final_fraction * peak, max(total_steps - warmup_steps, 1)),
    ],
    [warmup_steps],
  )


def cosine(
  peak: NonNegativeFloat,
  total_steps: PositiveInt,
  warmup_steps: NonNegativeInt = 0,
  final_fraction: Fraction = 0.1,
  warmup_from_zero: bool = True,
) -> Schedule:
  """Returns a warm-up, then half a cosine to final_fraction * peak (Loshchilov & Hutter 2016)."""
  _check(warmup_steps, total_steps)
  return optax.join_schedules(
    [
      _warm_up(peak, warmup_steps, warmup_from_zero),
      optax.cosine_decay_schedule(peak, max(total_steps - warmup_steps, 1), final_fraction),
    ],
    [warmup_steps],
  )


def wsd(
  peak: NonNegativeFloat,
  total_steps: PositiveInt,
  warmup_steps: NonNegativeInt = 0,
  decay_fraction: Fraction = 0.2,
  final_fraction: Fraction = 0.0,
  warmup_from_zero: bool = True,
) -> Schedule:
  """Returns the schedule warm-up, stable, decay (Hu 2024, section 4.1).

  The rate is constant until the last decay_fraction of the run, then falls linearly to
  final_fraction * peak.
  """
  decay_steps = max(round(total_steps * decay_fraction), 1)
  _check(warmup_steps, total_steps)
  return optax.join_schedules(
    [
      _warm_up(peak, warmup_steps, warmup_from_zero),
      optax.constant_schedule(peak),
      optax.linear_schedule(peak, final_fraction * peak, decay_steps),
    ],
    [warmup_steps, max(warmup_steps, total_steps - decay_steps)],
  )


def constant(
  peak: NonNegativeFloat, warmup_steps: NonNegativeInt = 0, warmup_from_zero: bool = True
) -> Schedule:
  """Returns a linear warm-up, then `peak` to the end."""
  _check(warmup_steps)
  return optax.join_schedules(
    [_warm_up(peak, warmup_steps, warmup_from_zero), optax.constant_schedule(peak)], [warmup_steps]
  )
