"""The small parts every block is made of: dense layers, norms, MLPs, embeddings, dropout."""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from t5x_style.errors import UserError
from t5x_style.models import fp8
from t5x_style.models.config import TransformerConfig
from t5x_style.partitioning.active_mesh import current_platform


def _gelu_exact(x: jax.Array) -> jax.Array:
  """An entry times the normal distribution's share below it (Hendrycks & Gimpel 2016), in float32.

  By erf, as PyTorch has it, with absolute errors of 1e-6 at most. jax.nn.gelu takes erfc, exact to
  the last bits below -5 too, where the result is nearly zero; but XLA writes erfc out as two
  polynomials and computes both, for which a GPU took twice as long as for erf.
  """
  y = x.astype(jnp.float32)
  return (0.5 * y * (1.0 + jax.lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "gelu": lambda x: nn.gelu(x, approximate=True),
  "gelu_exact": _gelu_exact,
  "silu": nn.silu,
  "relu": nn.relu,
  "linear": lambda x: x,
}


# A row of a table is added to at most once per block of this many tokens of a row of the batch; a
# block costs its square in operations.
_BLOCK = 256

# The gradient of a table of so few rows (two token types) is one product with all tokens.
_FEW_ROWS = 16


def project(x: jax.Array, kernel: jax.Array, in_fp8: bool = False) -> jax.Array:
  """[..., D] x [D, F] -> [..., F].

  The leading dimensions are flattened first: with a single contracted dimension the weight
  gradient is one plain GEMM, which XLA's CPU back end runs markedly faster. Where the length is
  sharded the flattened dimension would have no sharding of its own, so it is left alone there.
  """
  product = fp8.project if in_fp8 else jnp.matmul
  if x.ndim == 3 and nn.logical_to_mesh_axes(("batch", "length"))[1] is not None:
    return product(x, kernel)
  return product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], kernel.shape[-1])


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
  def __call__(
    self, x: jax.Array, bias_apart: bool = False
  ) -> jax.Array | tuple[jax.Array, jax.Array | None]:
    """[..., inputs] -> [..., features]; with `bias_apart` the product alone, and the bias or None.

    Whoever takes them apart adds them itself, so that the sum need not be kept for a gradient.
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
    y = project(x.astype(config.dtype), kernel.astype(config.dtype).reshape(flat), config.fp8)
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
    config, size = self.config, (x.shape[-1],)
    ones = nn.with_logical_partitioning(nn.initializers.ones, (self.axis,))
    scale, bias = self.param("scale", ones, size, config.param_dtype), None
    if config.norm == "layer" and config.use_bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, (self.axis,))
      bias = self.param("bias", zeros, size, config.param_dtype)
    return _normalize(config.norm == "layer", config.norm_epsilon, x, scale, bias).astype(
      config.dtype
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _normalize(centred, epsilon, x, scale, bias):
  """[..., D] -> [..., D] in float32: (x - its mean, if centred) / its deviation * scale + bias.

  The gradient is written out so that x is kept for it as it came, and two numbers per vector; left
  to JAX, several arrays of x's size in float32 are.
  """
  return _normalize_forward(centred, epsilon, x, scale, bias)[0]


def _normalize_forward(centred, epsilon, x, scale, bias):
  y, mean = x.astype(jnp.float32), None
  if centred and x.dtype == jnp.bfloat16:
    # One pass over x. Counted from one of its own entries, the difference of the two squares loses
    # at most about D 2^-24 of itself, however far x is from zero.
    first = y[..., :1]
    from_first = (y - first).mean(-1, keepdims=True)
    square = jnp.square(y - first).mean(-1, keepdims=True) - jnp.square(from_first)
    square, mean = jnp.maximum(square, 0), from_first + first
    y -= mean
  else:
    if centred:
      mean = y.mean(-1, keepdims=True)
      y -= mean
    square = jnp.square(y).mean(-1, keepdims=True)
  inverse = jax.lax.rsqrt(square + epsilon)
  y = y * inverse * scale.astype(jnp.float32)
  return y if bias is None else y + bias.astype(jnp.float32), (x, scale, bias, mean, inverse)


def _normalize_backward(centred, epsilon, kept, gradient):
  del epsilon
  x, scale, bias, mean, inverse = kept
  y = x.astype(jnp.float32)
  y = (y - mean if centred else y) * inverse
  vectors = tuple(range(x.ndim - 1))
  by_scale = (gradient * y).sum(vectors).astype(scale.dtype)
  by_bias = None if bias is None else gradient.sum(vectors).astype(bias.dtype)
  by_y = gradient * scale.astype(jnp.float32)
  by_x = by_y - y * (by_y * y).mean(-1, keepdims=True)
  if centred:
    by_x -= by_y.mean(-1, keepdims=True)
  return (by_x * inverse).astype(x.dtype), by_scale, by_bias


_normalize.defvjp(_normalize_forward, _normalize_backward)


class Dropout(nn.Module):
  """Dropout with one mask along the length, as T5 does; off when there is no "dropout" rng."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    deterministic = not self.has_rng("dropout")
    return nn.Dropout(self.config.dropout_rate, broadcast_dims=(-2,))(x, deterministic)


def activate(
  names: tuple[str, ...],
  gates: Sequence[jax.Array],
  biases: Sequence[jax.Array | None],
  scanned: bool,
) -> jax.Array:
  """The product of the activations of gates [..., F] and their biases [F].

  Of arrays as large only the gates as they came are kept for its gradient. Outside of a scan the
  compiler sees both passes at once, and keeps what they have in common after all: up to three more
  arrays to write and to read. On a GPU, where that shows, a barrier keeps it from doing so.
  """
  barrier = not scanned and current_platform() == "gpu"
  return jax.checkpoint(_activate, static_argnums=(0,), prevent_cse=barrier)(names, gates, biases)


def _activate(names, gates, biases):
  activated = [
    ACTIVATIONS[name](gate if bias is None else gate + bias)
    for name, gate, bias in zip(names, gates, biases, strict=True)
  ]
  return math.prod(activated[1:], start=activated[0])


class Mlp(nn.Module):
  """Feed-forward layer; several activations are multiplied into a gate (Shazeer 2020, eq. 6).

  Attributes:
    scanned: whether a loop over layers runs it: see activate.
  """

  config: TransformerConfig
  scanned: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    config, gates, biases = self.config, [], []
    for i, name in enumerate(config.mlp_activations):
      if name not in ACTIVATIONS:
        raise UserError(
          f"TransformerConfig.mlp_activations names {name!r}; known are {', '.join(ACTIVATIONS)}."
        )
      suffix = f"wi_{i}" if len(config.mlp_activations) > 1 else "wi"
      dense = Dense(config, (config.mlp_dim,), ("embed", "mlp"), name=suffix)
      gate, bias = dense(x, bias_apart=True)
      gates.append(gate)
      biases.append(bias)

    y = activate(config.mlp_activations, gates, biases, self.scanned)
    y = nn.with_logical_constraint(y, ("batch", "length", "mlp"))
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
    x = look_up(self.embedding.astype(self.config.dtype), ids)
    if ids.shape[0] == 1:
      return x
    # Every device looks up, and in the backward pass adds up, the columns of the table that it
    # holds. Asked for whole vectors at once the compiler gathers the gradient of all rows.
    return nn.with_logical_constraint(x, ("table_batch", "length", "embed"))


def look_up(table: jax.Array, ids: jax.Array) -> jax.Array:
  """[V, D] and ids [B, L] -> [B, L, D]."""
  # GPUs add to the same row of the gradient one after the other: see the gradient below.
  return _look_up(table, ids) if current_platform() == "gpu" else jnp.take(table, ids, axis=0)


@jax.custom_vjp
def _look_up(table, ids):
  return jnp.take(table, ids, axis=0)


def _look_up_backward(kept, gradient):
  """What repeats in a row is summed by a product first, then added to the table, in float32.

  Padding, two token types, frequent words: a row of BERT's has one of them a hundred times.
  """
  table, ids = kept
  if ids.shape[0] > 1:  # As the vectors lie: see Embed.
    ids = nn.with_logical_constraint(ids, ("table_batch", None))
    gradient = nn.with_logical_constraint(gradient, ("table_batch", None, "embed"))
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32, precision="highest")
  if table.shape[0] <= _FEW_ROWS:
    chosen = jax.nn.one_hot(ids, table.shape[0], dtype=gradient.dtype)
    return product("blv,bld->vd", chosen, gradient).astype(table.dtype), None
  length, block = ids.shape[-1], min(ids.shape[-1], _BLOCK)
  nowhere, padding = table.shape[0], -length % block
  ids = jnp.pad(ids, ((0, 0), (0, padding)), constant_values=nowhere)
  gradient = jnp.pad(gradient, ((0, 0), (0, padding), (0, 0)))
  ids = ids.reshape(ids.shape[0], -1, block)
  gradient = gradient.reshape(*ids.shape, -1)
  same = ids[..., :, None] == ids[..., None, :]
  sums = product("bnij,bnjd->bnid", same.astype(gradient.dtype), gradient)
  first = same.argmax(-1) == jnp.arange(block)
  by_table = jnp.zeros(table.shape, jnp.float32)
  by_table = by_table.at[jnp.where(first, ids, nowhere)].add(sums, mode="drop")
  return by_table.astype(table.dtype), None


_look_up.defvjp(lambda table, ids: (_look_up(table, ids), (table, ids)), _look_up_backward)
