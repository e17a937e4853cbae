"""The losses of the routers of a model with experts, and the sums that are reported of them.

The balance of the experts is not a mean over tokens. Each microbatch balances its own tokens, and
counts by its share of the tokens of the batch: with NUM_MICROBATCHES = 4 the loss is the mean of
four balances, a little more than the balance of the whole batch, because shares of fewer tokens
vary more. Within a microbatch the tokens of all devices are balanced together, so that the mesh
changes nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.losses import expert_balance
from t5x_style.models import Batch, Experts, TransformerConfig, real_tokens
from t5x_style.models.expert_layer import Routing


class RouterSums(NamedTuple):
  """Sums over the layers with experts and the tokens that they read; see metrics.Sums."""

  routed: jax.Array
  balance_loss: jax.Array
  router_z_loss: jax.Array
  dropped: jax.Array
  busiest: jax.Array


def token_scales(config: TransformerConfig, batch: Batch) -> dict[str, jax.Array] | None:
  """Returns {side: 1 / the tokens it reads of a global batch}, scalars; None without experts."""
  if config.experts is None:
    return None
  scales = {}
  for side, layers in (
    ("encoder", config.num_encoder_layers),
    ("decoder", config.num_decoder_layers),
  ):
    if layers:
      real = real_tokens(batch, side, config.padding_id)
      count = jnp.float32(batch[f"{side}_input_tokens"].size) if real is None else real.sum()
      scales[side] = 1.0 / jnp.maximum(count.astype(jnp.float32), 1.0)
  return scales


def router_loss(
  experts: Experts, routing: Mapping[str, Any], scales: Mapping[str, jax.Array]
) -> tuple[jax.Array, RouterSums]:
  """Returns the weighted losses of all routers, a scalar, and the sums to report.

  Args:
    experts: their settings.
    routing: what the layers of each side sowed in the collection ROUTING.
    scales: token_scales of the global batch.
  """
  total, sums = jnp.zeros(()), []
  for side, tree in routing.items():
    layers = _by_layer(tree)
    pooled = experts.balance_over == "model"
    balance = expert_balance(layers.chosen, layers.probability, layers.tokens, pooled)
    per_layer = balance if pooled else balance / len(layers.tokens)
    squares, routed = layers.log_z_squared.sum(), layers.tokens.sum()
    share = layers.tokens[0] * scales[side]  # of this microbatch
    total += experts.balance_loss * share * balance
    total += experts.router_z_loss * scales[side] * squares
    # An expert's fair share is K / E of the tokens.
    per_token, size = experts.experts_per_token, experts.num_experts
    busiest = (layers.chosen.max(1) * size / per_token).sum()
    dropped = layers.dropped.sum() / per_token
    sums.append(RouterSums(routed, per_layer * routed, squares, dropped, busiest))
  return total, jax.tree.map(lambda *x: sum(x), *sums)


def _by_layer(tree: Any) -> Routing:
  """Returns the Routing of all layers of a stack, each array with a first axis for them."""
  found = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Routing))
  stacked = [
    Routing(*(x.reshape(-1, *x.shape[-1:] if i < 2 else ()) for i, x in enumerate(layers)))
    for layers in found
  ]
  return jax.tree.map(lambda *x: jnp.concatenate(x), *stacked)
