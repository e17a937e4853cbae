"""The soft cap of logits (Gemma 2, section 2), with a gradient that is exact far above the cap."""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def soft_capped(logits: jax.Array, cap: float) -> jax.Array:
  """Returns cap * tanh(logits / cap), of logits of any shape."""
  return cap * jnp.tanh(logits / cap)


@soft_capped.defjvp
def _soft_capped_jvp(cap, primals, tangents):
  (logits,), (tangent,) = primals, tangents
  return soft_capped(logits, cap), soft_cap_slope(logits, cap) * tangent


def soft_cap_slope(logits: jax.Array, cap: float) -> jax.Array:
  """Returns the derivative of soft_capped, sech^2(logits / cap), in the uncapped logits' shape.

  JAX differentiates tanh as 1 - tanh^2, which is only rounding error where tanh is nearly 1.
  """
  decay = jnp.exp(-2.0 * jnp.abs(logits / cap))
  return 4.0 * decay / jnp.square(1.0 + decay)
