"""What kernels that run on each device's own rows and heads need of the whole arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from t5x_style.partitioning.active_mesh import num_shards

if TYPE_CHECKING:
  from t5x_style.models.attention_kernels.choice import Case

OUTPUT_NAME = "attention"  # What remat policies know the output of Pallas kernels by.


def indivisible(case: Case) -> str | None:
  """Why a device's part would not be whole heads, or None."""
  (devices,), heads = num_shards(("heads",)), case.queries[2]
  if heads % devices:
    return f"{heads} heads do not divide over {devices} devices"
  return None


def spread_key_heads(x: jax.Array, num_heads: int) -> jax.Array:
  """Keys or values [B, S, K, H], their heads repeated so that they divide as the N query heads do.

  Grouped queries often have fewer key heads than devices that share the heads.
  """
  (shards,), K = num_shards(("heads",)), x.shape[2]
  repeats = next(
    r for r in range(1, num_heads // K + 1) if K * r % shards == 0 and num_heads % (K * r) == 0
  )
  return jnp.repeat(x, repeats, axis=2) if repeats > 1 else x
