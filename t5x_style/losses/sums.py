"""What every loss returns: sums over tokens, to be added up and divided once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class LossSums(NamedTuple):
  """Sums over the tokens (or pairs) of a batch, float32 scalars.

  Sums of several microbatches or devices add up; divide once, by the global `weight_sum`.
  """

  loss_sum: jax.Array  # nats, weighted, z-loss included: what is minimised
  z_loss_sum: jax.Array  # nats, weighted: the part of loss_sum that is z-loss
  weight_sum: jax.Array
  correct_sum: jax.Array  # the weight of those whose target has the largest logit
  per_token_loss: jax.Array | None = None  # nats [...], unweighted, without z-loss; 0 at weight 0


def weighted_sum(weights: jax.Array, values: jax.Array) -> jax.Array:
  """Sum of weights * values, in float32."""
  return jnp.sum(weights * values, dtype=jnp.float32)
