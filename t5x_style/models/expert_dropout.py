"""Dropout inside experts, which depends on the token and not on the device that computes it.

An expert computes its tokens on the device that holds it, in an order that the other tokens decide.
So the random number of an element is a hash of a key, the number of the choice (a token and one of
the K experts that compute it) in the whole batch, and the number of the hidden unit.
"""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p


def choice_numbers(shape: tuple[int, ...]) -> jax.Array:
  """Returns the number of each choice of a batch, uint32 of its shape [B, L, K]."""
  return jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)


def drop(
  x: jax.Array, rate: float, key: jax.Array, choices: jax.Array, first: jax.Array | int
) -> jax.Array:
  """Returns x [..., F] with elements set to 0 at a rate, and the others divided by 1 - rate.

  Each element is drawn on its own, as the experts of Mesh TensorFlow do it.

  Args:
    key: uint32 [2], of the layer and the step.
    choices: uint32 [...], the number of the choice that each row is.
    first: the number of the hidden unit in column 0; more than 0 where devices share an expert.
  """
  units = jnp.uint32(first) + jnp.arange(x.shape[-1], dtype=jnp.uint32)
  rows = jnp.broadcast_to(choices[..., None], x.shape)
  bits, _ = threefry2x32_p.bind(key[0], key[1], rows, jnp.broadcast_to(units, x.shape))
  # A rate below 2**-33 rounds to one that keeps all numbers but the largest.
  kept = bits < jnp.uint32(min(round((1 - rate) * 2**32), 2**32 - 1))
  return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)
