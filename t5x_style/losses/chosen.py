"""Where only some positions of a row carry loss, only those are projected on the vocabulary."""

import jax
import jax.numpy as jnp


def select_chosen(weights: jax.Array, max_targets: int) -> jax.Array:
  """Positions that carry loss, in order, so that shapes are static.

  Rows with fewer than `max_targets` of them are filled up with positions of weight zero, which
  cost nothing in the loss. Rows must not have more: those beyond the first are left out.

      weights [[0, 1, 0, 1, 0]], max_targets 3 -> [[1, 3, 0]]

  Args:
    weights: [B, L].

  Returns:
    positions int32 [B, P] with P = min(max_targets, L).
  """
  if max_targets < 1:
    raise ValueError(f"max_targets = {max_targets} must be at least 1.")
  order = jnp.argsort(weights == 0, axis=-1, stable=True)
  return order[..., : min(max_targets, weights.shape[-1])].astype(jnp.int32)


def gather_targets(
  targets: jax.Array, weights: jax.Array, max_targets: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(positions, targets, weights), each [B, P], of the positions of [B, L] that carry loss."""
  positions = select_chosen(weights, max_targets)
  targets, weights = (jnp.take_along_axis(x, positions, axis=-1) for x in (targets, weights))
  return positions, targets, weights
