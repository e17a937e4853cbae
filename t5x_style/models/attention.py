"""Multi-head attention, and the position encodings: rotary and relative.

Which tokens see which is an attention_kernels.pattern.Pattern, built in transformer.py.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.models import ops, rotary_scaling
from t5x_style.models.attention_kernels.pattern import AttentionInputs, WeightDropout
from t5x_style.models.attention_kernels.select import KERNELS
from t5x_style.models.config import RotaryScaling, TransformerConfig
from t5x_style.models.layers import Dense, Norm


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  inputs: AttentionInputs,
  *,
  scale: float = 1.0,
  soft_cap: float | None = None,
) -> jax.Array:
  """Returns softmax(scale * q k + bias) v, the softmax in float32 (Vaswani 2017, section 3.2.1).

  Args:
    query: [B, L, N, H].
    key, value: [B, S, K, H]; K divides N, and N / K query heads share a key head (Ainslie 2023).
    inputs: who is seen, the bias, dropout of the weights, and the kernel that computes it.
    scale: multiplies the logits before the bias is added.
    soft_cap: scaled logits become soft_cap * tanh(logits / soft_cap) before the bias is added
      (Gemma 2, section 2); None does not change them.

  Returns:
    [B, L, N, H] in the dtype of the query; zeros for queries that see no key.
  """
  kernel = KERNELS[inputs.kernel.name].attend
  out = kernel(query, key, value, inputs, scale, soft_cap)
  if inputs.sees_any_key is not None:
    # With the heads flattened, as kernels and projections have them: TPUs would copy the array into
    # another layout if they had an axis of their own.
    flat = out.reshape(*out.shape[:2], -1)
    out = jnp.where(inputs.sees_any_key[:, :, None], flat, 0).reshape(out.shape)
  return out


def rotate(
  x: jax.Array, positions: jax.Array, base: float, scaling: RotaryScaling | None = None
) -> jax.Array:
  """Returns x with rotary position embedding (Su 2021, section 3.2.2), halves convention.

  Args:
    x: [B, L, N, H], H even.
    positions: [B or 1, L], in tokens.
    base: wavelengths grow geometrically from 2 pi to 2 pi base, in tokens.
    scaling: makes wavelengths longer, and with YaRN also x; None changes nothing.
  """
  frequencies = rotary_scaling.frequencies(x.shape[-1] // 2, base, scaling)
  angles = positions[..., None, None] * frequencies
  sin, cos = jnp.sin(angles), jnp.cos(angles)
  if (factor := rotary_scaling.attention_factor(scaling)) != 1.0:
    sin, cos = factor * sin, factor * cos
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def relative_buckets(
  distance: jax.Array, bidirectional: bool, buckets: int, max_distance: int
) -> jax.Array:
  """Returns T5's bucket of each distance (key position - query position), int32 of any shape.

  Short distances have a bucket each, longer ones share logarithmic buckets (Raffel 2019, section
  2.1). Bidirectional stacks use half of the buckets for keys on the right; in causal stacks these
  count as distance 0.
  """
  offset = jnp.zeros_like(distance)
  if bidirectional:
    buckets //= 2
    offset = buckets * (distance > 0)
    distance = jnp.abs(distance)
  else:
    distance = jnp.maximum(-distance, 0)
  exact = buckets // 2
  spread = jnp.log(jnp.maximum(distance, 1) / exact + np.finfo(np.float32).eps)
  far = exact + (spread / np.log(max_distance / exact) * (buckets - exact)).astype(jnp.int32)
  return offset + jnp.where(distance < exact, distance, jnp.minimum(far, buckets - 1))


class RelativeBias(nn.Module):
  """T5's learned bias for each head and distance bucket, shared by the layers of a stack."""

  config: TransformerConfig
  bidirectional: bool

  @nn.compact
  def __call__(self, distance: jax.Array) -> jax.Array:
    """Returns the bias [N, L, S] of each distance (key position - query position) [L, S]."""
    config = self.config
    init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
    table = self.param(
      "embedding",
      nn.with_logical_partitioning(init, ("heads", "relative")),
      (config.num_heads, config.relative_buckets),
      config.param_dtype,
    )
    bucket = relative_buckets(
      distance, self.bidirectional, config.relative_buckets, config.relative_max_distance
    )
    return ops.look_up_biases(table.astype(config.dtype), bucket)

  def by_distance(self) -> jax.Array:
    """Returns the bias [N, 2 R + 1] of the distances from -R to R, in float32.

    All further distances have the bucket, and so the bias, of -R or R.
    """
    reach = max(self.config.relative_max_distance, self.config.relative_buckets)
    return self(jnp.arange(-reach, reach + 1)[None])[:, 0].astype(jnp.float32)


class CacheUse(flax.struct.PyTreeNode):
  """How attention uses the cache of keys and values [B, length, K, H] (Shazeer 2019, section 2.3).

  Without a slot the cache is made: it holds the new keys, and zeros up to `length`. With a slot the
  keys of one more token are written there, and all that the cache holds is attended to.
  """

  slot: jax.Array | None = None  # scalar
  length: int | None = flax.struct.field(pytree_node=False, default=None)  # None: that of the keys


_CACHED = ("cached_key", "cached_value")  # the variables of a cache


class Attention(nn.Module):
  """Multi-head attention: queries come from x, keys and values from `source`.

  Attributes:
    out_scale: multiplies the initial deviation of the last kernel.
  """

  config: TransformerConfig
  out_scale: float = 1.0

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    source: jax.Array | None,
    inputs: AttentionInputs,
    *,
    positions: jax.Array | None = None,
    cache: CacheUse | None = None,
  ) -> jax.Array:
    """Attends from x [B, L, D] to source [B, S, D]; returns [B, L, D].

    Args:
      source: None attends to the keys and values that are in the cache.
      inputs: who is seen, the bias and the kernel.
      positions: [B or 1, L], for rotary self-attention; None if nothing is rotated.
      cache: what happens to the keys and values of `source`; None if there is no cache.
    """
    config = self.config
    scale = config.head_dim**-0.5
    query = self._heads("query", x, config.num_heads, 1.0 if config.scale_attention else scale)
    if config.qk_norm:
      query = Norm(config, axis="kv", name="query_norm")(query)
    rotary = None if positions is None else (positions, *self._rotary_base(inputs.pattern.window))
    if rotary:
      query = rotate(query, *rotary)
    if source is None:
      key, value = (self.get_variable("cache", name) for name in _CACHED)
    else:
      key, value = self._keys_and_values(source, rotary, cache, inputs.kernel.name)
    scale = scale if config.scale_attention else 1.0
    if config.attention_dropout_rate and self.has_rng("dropout"):
      shared = config.dropout_places == "t5"
      dropout = WeightDropout(self.make_rng("dropout"), config.attention_dropout_rate, shared)
      inputs = inputs.replace(dropout=dropout)
    out = attend(query, key, value, inputs, scale=scale, soft_cap=config.attention_soft_cap)
    out = nn.with_logical_constraint(out, ("batch", "length", "heads", "kv"))
    axes = ("heads", "kv", "embed")
    return Dense(config, (config.emb_dim,), axes, self.out_scale, name="out")(out)

  def _heads(self, name, x, heads, scale=1.0):
    """Projects x [B, L, D] to [B, L, heads, H]."""
    axis = "heads" if name == "query" else "kv_heads"
    features = (heads, self.config.head_dim)
    y = Dense(self.config, features, ("embed", axis, "kv"), scale, name=name)(x)
    return nn.with_logical_constraint(y, ("batch", "length", axis, "kv"))

  def _rotary_base(self, window):
    config = self.config
    if window is not None and config.rotary_base_local is not None:
      return config.rotary_base_local, None
    return config.rotary_base, config.rotary_scaling

  def _keys_and_values(self, source, rotary, cache, kernel):
    """Returns the keys and values to attend to, [B, S, K, H] each; writes them to the cache."""
    key = self._heads("key", source, self.config.kv_heads)
    value = self._heads("value", source, self.config.kv_heads)
    if self.config.qk_norm:
      key = Norm(self.config, axis="kv", name="key_norm")(key)
    if rotary:
      key = rotate(key, *rotary)
    # If the length is split, a device has its own queries but needs all keys: gathered here, unless
    # they come around a ring.
    in_ring = cache is None and kernel == "ring"
    whole = ("batch", "length" if in_ring else None, "kv_heads", "kv")
    key, value = (nn.with_logical_constraint(y, whole) for y in (key, value))
    if cache is None:
      return key, value
    if cache.slot is None:  # All of it is new: what is attended to is not longer than `source`.
      missing = cache.length - key.shape[1] if cache.length else 0
      for name, new in zip(_CACHED, (key, value), strict=True):
        padded = jnp.pad(new, ((0, 0), (0, missing), (0, 0), (0, 0)))
        self.put_variable("cache", name, nn.with_logical_constraint(padded, whole))
      return key, value
    for name, new in zip(_CACHED, (key, value), strict=True):
      before = self.get_variable("cache", name)
      now = jax.lax.dynamic_update_slice_in_dim(before, new, cache.slot, axis=1)
      self.put_variable("cache", name, now)
    return tuple(self.get_variable("cache", name) for name in _CACHED)
