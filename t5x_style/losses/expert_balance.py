"""The loss that makes the experts of a layer equally busy."""

import jax
import jax.numpy as jnp


def expert_balance(
  chosen: jax.Array, probability: jax.Array, tokens: jax.Array, pooled: bool = False
) -> jax.Array:
  """Returns E * sum over the experts of (their share of tokens) * (their mean probability).

  It is Switch's equations 4 to 6 (Fedus et al. 2021), without the weight alpha; with K experts per
  token the shares sum to K (Mixtral in transformers). Balanced experts give K. Only the mean
  probabilities have a gradient.

  chosen [[3, 1]], probability [[2.5, 1.5]], tokens [4] give 2 * (3/4 * 2.5/4 + 1/4 * 1.5/4) = 1.125

  Args:
    chosen: float32 [layers, E], how many tokens chose each expert.
    probability: float32 [layers, E], the sum of their probabilities.
    tokens: float32 [layers].
    pooled: whether shares and probabilities are first averaged over the layers.

  Returns:
    The sum over the layers, or the one value of all layers; 0 where there are no tokens.
  """
  if pooled:
    chosen, probability, tokens = (x.sum(0, keepdims=True) for x in (chosen, probability, tokens))
  count = jnp.maximum(tokens, 1.0)[:, None]
  shares = jax.lax.stop_gradient(chosen) / count
  return chosen.shape[1] * (shares * probability / count).sum()
