"""What every loss returns: sums over tokens, to be added up and divided once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Tokens(NamedTuple):
  """Each token's own values, float32, unweighted; 0 where the weight is 0."""

  loss: jax.Array  # nats, without z-loss
  z_loss: jax.Array  # nats
  correct: jax.Array  # 1 where the target has the largest logit (the first such), else 0


class LossSums(NamedTuple):
  """Sums over the tokens (or pairs) of a batch, float32 scalars.

  Sums of several microbatches or devices add up; divide once, by the global `weight_sum`.
  """

  loss_sum: jax.Array  # nats, weighted, z-loss included: what is minimised
  z_loss_sum: jax.Array  # nats, weighted: the part of loss_sum that is z-loss
  weight_sum: jax.Array
  correct_sum: jax.Array  # the weight of those whose target has the largest logit
  per_token: Tokens | None = None  # where it was requested

  def reweighted(self, weights: jax.Array) -> "LossSums":
    """The sums with other weights [...], which must be 0 wherever the first ones were."""
    assert self.per_token is not None
    z_loss = weighted_sum(weights, self.per_token.z_loss)
    return LossSums(
      loss_sum=weighted_sum(weights, self.per_token.loss) + z_loss,
      z_loss_sum=z_loss,
      weight_sum=weights.sum(dtype=jnp.float32),
      correct_sum=weighted_sum(weights, self.per_token.correct),
      per_token=self.per_token,
    )


def weighted_sum(weights: jax.Array, values: jax.Array) -> jax.Array:
  """Sum of weights * values, in float32."""
  return jnp.sum(weights * values, dtype=jnp.float32)
