"""Decides on the device whether a step updates the parameters, before it updates them.

A step whose loss or gradient is not finite never does. A step whose loss or gradient norm is far
above those of the steps before it, a spike, does not if SPIKE_SIGMAS is set: as OLMo 2 does
(arXiv:2501.00656; SkipStepOptimizer of OLMo-core) and MaxText's skip_step_on_spikes, it compares
with the mean and the standard deviation of the last 128 steps. Unlike there, spikes do not enter
these statistics, because one huge value would hide all others for 128 steps.

By default spikes are only counted, because healthy runs with small batches have them, too: 3 of the
420 steps of quickstart.gin.
"""

import enum
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

WINDOW = 128  # steps of the statistics
DEFAULT_SIGMAS = 6.0  # OLMo-core's sigma_factor
_FEWEST = 20  # steps without which there are no statistics
# The standard deviation counts as at least this share of the mean: a loss that hardly changes any
# more, for example of a memorised text, must not make a spike of each small change.
_SMALLEST_DEVIATION = 0.02


class Verdict(enum.IntEnum):
  """What a step was found to be."""

  NORMAL = 0
  NOT_FINITE = 1
  SPIKE = 2


class Guard(flax.struct.PyTreeNode):
  """What the guard remembers of the steps so far; the same on all devices.

  Attributes:
    losses, grad_norms: [WINDOW] float32, of the last normal steps; step n is at n % WINDOW.
    normal: int32, normal steps since the statistics began.
    skipped: int32, steps of the whole run that updated nothing.
    spikes: int32, spikes in the whole run, whether skipped or not.
    not_finite_in_a_row, spikes_in_a_row: int32, up to the last step.
  """

  losses: jax.Array
  grad_norms: jax.Array
  normal: jax.Array
  skipped: jax.Array
  spikes: jax.Array
  not_finite_in_a_row: jax.Array
  spikes_in_a_row: jax.Array

  @classmethod
  def new(cls) -> "Guard":
    zero, zeros = jnp.zeros((), jnp.int32), jnp.zeros(WINDOW, jnp.float32)
    return cls(zeros, zeros, zero, zero, zero, zero, zero)

  def as_json(self) -> dict[str, Any]:
    """Returns JSON from which `from_json` makes an equal guard."""
    return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

  @classmethod
  def from_json(cls, saved: dict[str, Any], abstract: "Guard") -> "Guard":
    """Makes a guard of JSON, with the dtypes and shardings of `abstract`."""

    def array(name, leaf):
      value = np.asarray(saved[name], leaf.dtype).reshape(leaf.shape)
      return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: value[index])

    return cls(**{name: array(name, leaf) for name, leaf in vars(abstract).items()})


def judge(
  guard: Guard,
  loss: jax.Array,
  grad_norm: jax.Array,
  *,
  spike_sigmas: float | None,
  patience: int,
) -> tuple[Guard, jax.Array, jax.Array]:
  """Judges one step; a pure function, for jit.

  Args:
    guard: after the step before.
    loss: [], in nats per target token.
    grad_norm: [], before clipping.
    spike_sigmas: standard deviations above the mean from which a step is a spike and is skipped.
      None: spikes are found with DEFAULT_SIGMAS, counted, and not skipped.
    patience: after this many spikes in a row, the statistics begin again: a lasting change, for
      example of the data, is not a spike.

  Returns:
    the new guard, whether the step may update the parameters, bool [], and a Verdict, int32 [].
  """
  finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
  sigmas = DEFAULT_SIGMAS if spike_sigmas is None else spike_sigmas
  high = _above(loss, guard.losses, guard.normal, sigmas)
  high |= _above(grad_norm, guard.grad_norms, guard.normal, sigmas)
  spike = finite & high
  normal = finite & ~spike
  update = finite if spike_sigmas is None else normal

  spikes_in_a_row = jnp.where(normal, 0, guard.spikes_in_a_row + spike)
  begins_again = spikes_in_a_row >= patience
  place = jnp.arange(WINDOW) == guard.normal % WINDOW
  new = Guard(
    losses=jnp.where(place & normal, loss, guard.losses),
    grad_norms=jnp.where(place & normal, grad_norm, guard.grad_norms),
    normal=jnp.where(begins_again, 0, guard.normal + normal),
    skipped=guard.skipped + ~update,
    spikes=guard.spikes + spike,
    not_finite_in_a_row=jnp.where(finite, 0, guard.not_finite_in_a_row + 1),
    spikes_in_a_row=jnp.where(begins_again, 0, spikes_in_a_row),
  )
  verdict = jnp.where(finite, jnp.where(spike, Verdict.SPIKE, Verdict.NORMAL), Verdict.NOT_FINITE)
  return new, update, verdict.astype(jnp.int32)


def _above(value: jax.Array, window: jax.Array, count: jax.Array, sigmas: float) -> jax.Array:
  """Returns whether a value is more than `sigmas` standard deviations above a window's mean."""
  count = jnp.minimum(count, WINDOW)
  used = jnp.arange(WINDOW) < count
  mean = jnp.sum(window, where=used) / jnp.maximum(count, 1)
  variance = jnp.sum(jnp.square(window - mean), where=used) / jnp.maximum(count, 1)
  deviation = jnp.maximum(jnp.sqrt(variance), _SMALLEST_DEVIATION * jnp.abs(mean))
  return (count >= _FEWEST) & (value > mean + sigmas * deviation)
