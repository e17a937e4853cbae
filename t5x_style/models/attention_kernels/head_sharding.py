"""How heads are divided over devices, for kernels that run on each device's own rows and heads."""

import jax
import jax.numpy as jnp

from t5x_style.models.attention_kernels.pattern import AttentionSpec
from t5x_style.partitioning.active_mesh import num_shards


def heads_error(spec: AttentionSpec) -> str | None:
  """Returns why the heads cannot be divided evenly over devices, or None if they can."""
  (devices,), heads = num_shards(("heads",)), spec.queries[2]
  if heads % devices:
    return f"{heads} heads do not divide over {devices} devices"
  return None


def repeat_key_heads(x: jax.Array, num_heads: int) -> jax.Array:
  """Repeats the heads of keys or values [B, S, K, H] until devices can share them.

  Models with grouped queries often have fewer key heads than devices along the heads. Afterwards
  key heads divide over devices and query heads over key heads: [B, S, K r, H], r the fewest.
  """
  (shards,), K = num_shards(("heads",)), x.shape[2]
  repeats = next(
    r for r in range(1, num_heads // K + 1) if K * r % shards == 0 and num_heads % (K * r) == 0
  )
  return jnp.repeat(x, repeats, axis=2) if repeats > 1 else x
