"""The small parts every block is made of: dense layers, norms, MLPs, embeddings, dropout."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from t5x_style.models.config import TransformerConfig

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "gelu": lambda x: nn.gelu(x, approximate=True),
  "gelu_exact": lambda x: nn.gelu(x, approximate=False),
  "silu": nn.silu,
  "relu": nn.relu,
  "linear": lambda x: x,
}


def project(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[..., D] x [D, F] -> [..., F].

  The leading dimensions are flattened first: with a single contracted dimension the weight
  gradient is one plain GEMM, which XLA's CPU back end runs markedly faster. Where the length is
  sharded the flattened dimension would have no sharding of its own, so it is left alone there.
  """
  if x.ndim == 3 and nn.logical_to_mesh_axes(("batch", "length"))[1] is not None:
    return jnp.einsum("bld,df->blf", x, kernel)
  return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def kernel_init(config: TransformerConfig, scale: float = 1.0) -> nn.initializers.Initializer:
  """Truncated normal with 1/sqrt(fan in), or the configuration's fixed deviation, times scale."""
  if config.kernel_init_std is None:
    return nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal")
  return nn.initializers.normal(config.kernel_init_std * scale)


class Dense(nn.Module):
  """A linear map of the last dimensions of x to `features`, both possibly several.

  Attributes:
    features: output dimensions, e.g. (N, H).
    axes: logical names of all kernel dimensions, inputs first.
    scale: multiplies the initial deviation.
  """

  config: TransformerConfig
  features: tuple[int, ...]
  axes: tuple[str, ...]
  scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    config, num_inputs = self.config, len(self.axes) - len(self.features)
    inputs = x.shape[x.ndim - num_inputs :]
    flat = (math.prod(inputs), math.prod(self.features))
    init = kernel_init(config, self.scale)

    def init_kernel(key, shape, dtype):
      return init(key, flat, dtype).reshape(shape)  # The fan in counts all contracted dimensions.

    kernel = self.param(
      "kernel",
      nn.with_logical_partitioning(init_kernel, self.axes),
      inputs + self.features,
      config.param_dtype,
    )
    x = x.reshape(*x.shape[: x.ndim - num_inputs], flat[0])
    y = project(x.astype(config.dtype), kernel.astype(config.dtype).reshape(flat))
    y = y.reshape(*x.shape[:-1], *self.features)
    if config.use_bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[num_inputs:])
      y += self.param("bias", zeros, self.features, config.param_dtype).astype(config.dtype)
    return y


class Norm(nn.Module):
  """RMSNorm (Zhang & Sennrich 2019) or LayerNorm (Ba 2016) over the last dimension, in float32."""

  config: TransformerConfig
  axis: str = "embed"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    config, size = self.config, (x.shape[-1],)
    y = x.astype(jnp.float32)
    if config.norm == "layer":
      y -= y.mean(-1, keepdims=True)
    y *= jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + config.norm_epsilon)
    ones = nn.with_logical_partitioning(nn.initializers.ones, (self.axis,))
    y = y * self.param("scale", ones, size, config.param_dtype).astype(jnp.float32)
    if config.norm == "layer" and config.use_bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, (self.axis,))
      y += self.param("bias", zeros, size, config.param_dtype).astype(jnp.float32)
    return y.astype(config.dtype)


class Dropout(nn.Module):
  """Dropout with one mask along the length, as T5 does; off when there is no "dropout" rng."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    deterministic = not self.has_rng("dropout")
    return nn.Dropout(self.config.dropout_rate, broadcast_dims=(-2,))(x, deterministic)


class Mlp(nn.Module):
  """Feed-forward layer; several activations are multiplied into a gate (Shazeer 2020, eq. 6)."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    config, gates = self.config, []
    for i, name in enumerate(config.mlp_activations):
      if name not in ACTIVATIONS:
        raise ValueError(
          f"TransformerConfig.mlp_activations names {name!r}; known are {', '.join(ACTIVATIONS)}."
        )
      suffix = f"wi_{i}" if len(config.mlp_activations) > 1 else "wi"
      gates.append(
        ACTIVATIONS[name](Dense(config, (config.mlp_dim,), ("embed", "mlp"), name=suffix)(x))
      )
    y = nn.with_logical_constraint(math.prod(gates[1:], start=gates[0]), ("batch", "length", "mlp"))
    return Dense(config, (config.emb_dim,), ("mlp", "embed"), name="wo")(Dropout(config)(y))


class Embed(nn.Module):
  """A table of [rows, D] vectors, looked up by integer ids; the head of tied models.

  D is the configuration's table_dim.
  """

  config: TransformerConfig
  rows: int
  axis: str = "vocab"

  def setup(self):
    init = nn.initializers.normal(self.config.embedding_init_std)
    self.embedding = self.param(
      "embedding",
      nn.with_logical_partitioning(init, (self.axis, "embed")),
      (self.rows, self.config.table_dim),
      self.config.param_dtype,
    )

  def __call__(self, ids: jax.Array) -> jax.Array:
    """Token ids [B or 1, L] -> vectors [B or 1, L, D]."""
    x = jnp.take(self.embedding.astype(self.config.dtype), ids, axis=0)
    if ids.shape[0] == 1:
      return x
    # Every device looks up, and in the backward pass adds up, the columns of the table that it
    # holds. Asked for whole vectors at once the compiler gathers the gradient of all rows.
    return nn.with_logical_constraint(x, ("table_batch", "length", "embed"))
