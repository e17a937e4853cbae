"""The layers that blocks are made of: dense, norm, dropout, feed-forward, embedding."""

import math
from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax

from t5x_style.errors import UserError
from t5x_style.models import ops
from t5x_style.models.config import DropoutPlaces, TransformerConfig


def kernel_init(config: TransformerConfig, scale: float = 1.0) -> nn.initializers.Initializer:
  """Returns a normal of deviation scale * kernel_init_std, or a cut one of scale / sqrt(fan in)."""
  if config.kernel_init_std is None:
    return nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal")
  return _normal_init(config, config.kernel_init_std * scale)


def _normal_init(config, std):
  """Returns a normal distribution, cut at init_cutoff deviations if that is set."""
  cutoff = config.init_cutoff
  if cutoff is None:
    return nn.initializers.normal(std)
  return nn.initializers.truncated_normal(std, lower=-cutoff, upper=cutoff)


class Dense(nn.Module):
  """A linear map of the last one or more dimensions of x to one or more features.

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
  def __call__(
    self, x: jax.Array, bias_apart: bool = False
  ) -> jax.Array | tuple[jax.Array, jax.Array | None]:
    """Maps [..., inputs] to [..., features].

    Args:
      bias_apart: returns (product, bias or None), so that the caller can fuse the addition and the
        sum is not kept for the gradient.
    """
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
    y = ops.project(x.astype(config.dtype), kernel.astype(config.dtype).reshape(flat), config.fp8)
    bias = None
    if config.use_bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[num_inputs:])
      bias = self.param("bias", zeros, self.features, config.param_dtype).astype(config.dtype)
      if not bias_apart:
        y += bias.reshape(flat[1])  # Added while flat: the product may then do it.
    y = y.reshape(*x.shape[:-1], *self.features)
    return (y, bias) if bias_apart else y


class Norm(nn.Module):
  """RMSNorm (Zhang & Sennrich 2019) or LayerNorm (Ba 2016) over the last dimension, in float32."""

  config: TransformerConfig
  axis: str = "embed"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises each vector of [..., D]."""
    config, size = self.config, (x.shape[-1],)
    ones = nn.with_logical_partitioning(nn.initializers.ones, (self.axis,))
    scale, bias = self.param("scale", ones, size, config.param_dtype), None
    if config.norm == "layer" and config.use_bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, (self.axis,))
      bias = self.param("bias", zeros, size, config.param_dtype)
    y = ops.normalize(config.norm == "layer", config.norm_epsilon, x, scale, bias)
    return y.astype(config.dtype)


Place = Literal["embeddings", "attention", "mlp", "inside_mlp", "end"]

# {dropout_places of a model: where it has dropout}; "attention" and "mlp" are the ends of branches.
_DROPOUT: Mapping[DropoutPlaces, frozenset[Place]] = {
  "t5": frozenset({"embeddings", "attention", "mlp", "inside_mlp", "end"}),
  "bert": frozenset({"embeddings", "attention", "mlp"}),
  "modernbert": frozenset({"attention"}),
}


class Dropout(nn.Module):
  """Dropout at a place in the model, where dropout_places has it; off without a "dropout" rng.

  Elements of [B, L, D] are dropped one by one; as T5 does it (Mesh TensorFlow), all positions of a
  row lose the same ones.
  """

  config: TransformerConfig
  place: Place

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    config = self.config
    is_off = not self.has_rng("dropout") or self.place not in _DROPOUT[config.dropout_places]
    shared = (-2,) if config.dropout_places == "t5" else ()
    return nn.Dropout(config.dropout_rate, broadcast_dims=shared)(x, is_off)


def gate_names(config: TransformerConfig) -> list[str]:
  """Returns the names of the first kernels of a feed-forward layer, one for each activation.

  Raises:
    UserError: an activation is not known.
  """
  for name in config.mlp_activations:
    if name not in ops.ACTIVATIONS:
      known = ", ".join(ops.ACTIVATIONS)
      raise UserError(f"TransformerConfig.mlp_activations names {name!r}; known are {known}.")
  count = len(config.mlp_activations)
  return [f"wi_{i}" for i in range(count)] if count > 1 else ["wi"]


class Mlp(nn.Module):
  """Feed-forward layer; several activations are multiplied (gated units, Shazeer 2020, eq. 6).

  Attributes:
    scanned: whether a scan over layers runs it: see ops.activate.
    out_scale: multiplies the initial deviation of the last kernel.
  """

  config: TransformerConfig
  scanned: bool = False
  out_scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, L, D] to [B, L, D]."""
    config, gates, biases = self.config, [], []
    for name in gate_names(config):
      dense = Dense(config, (config.mlp_dim,), ("embed", "mlp"), name=name)
      gate, bias = dense(x, bias_apart=True)
      gates.append(gate)
      biases.append(bias)

    y = ops.activate(config.mlp_activations, gates, biases, self.scanned)
    y = nn.with_logical_constraint(y, ("batch", "length", "mlp"))
    out = Dense(config, (config.emb_dim,), ("mlp", "embed"), self.out_scale, name="wo")
    return out(Dropout(config, "inside_mlp")(y))


class Embed(nn.Module):
  """A table [rows, D] of vectors that are looked up by id; tied models use it as the head, too.

  D is the table_dim of the configuration.
  """

  config: TransformerConfig
  rows: int
  axis: str = "vocab"

  def setup(self):
    init = _normal_init(self.config, self.config.embedding_init_std)
    self.embedding = self.param(
      "embedding",
      nn.with_logical_partitioning(init, (self.axis, "embed")),
      (self.rows, self.config.table_dim),
      self.config.param_dtype,
    )

  def __call__(self, ids: jax.Array) -> jax.Array:
    """Looks up token ids [B or 1, L]: vectors [B or 1, L, D]."""
    x = ops.look_up(self.embedding.astype(self.config.dtype), ids)
    if ids.shape[0] == 1:
      return x
    # Each device looks up the columns of the table that it holds, and sums their gradient in the
    # backward pass. With a constraint to whole vectors the compiler would gather all gradients.
    return nn.with_logical_constraint(x, ("table_batch", "length", "embed"))
