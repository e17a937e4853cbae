"""Operations with custom gradients or per-platform implementations, where these are faster.

Layers call these instead of asking which device they run on. The mathematics is the same on all
platforms, and so are the results, up to rounding.

Outside this file, models and losses ask for the platform in two places: attention_kernels/select.py
chooses a kernel, and losses/chunk_cross_entropy.py the size of its chunks.
"""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from t5x_style.models import fp8
from t5x_style.partitioning import active_mesh

# Tokens in which look_up's gradient adds up equal ids before it writes to the table; the additions
# cost the square of this.
_TOKENS_PER_BLOCK = 256

# The gradient of a table with at most this many rows (token types have two) is one product.
_FEW_ROWS = 16


def gelu_exact(x: jax.Array) -> jax.Array:
  """Returns x * Phi(x), Phi the normal distribution (Hendrycks & Gimpel 2016), in x's dtype.

  It is computed in float32 through erf, as PyTorch does, with an absolute error of at most 1e-6.
  jax.nn.gelu takes erfc, which is exact also below -5, where the result is nearly zero. But XLA
  computes both of erfc's polynomials, which took a GPU twice as long.
  """
  y = x.astype(jnp.float32)
  return (0.5 * y * (1.0 + jax.lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


def squared_relu(x: jax.Array) -> jax.Array:
  """Returns max(x, 0)^2 in x's dtype (So et al. 2021, "Primer", section 4)."""
  return jnp.square(nn.relu(x))


# {name in TransformerConfig.mlp_activations: the function, of an array of any shape, in its dtype}
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "gelu": lambda x: nn.gelu(x, approximate=True),
  "gelu_exact": gelu_exact,
  "silu": nn.silu,
  "relu": nn.relu,
  "squared_relu": squared_relu,
  "linear": lambda x: x,
}


def activate(
  names: tuple[str, ...],
  gates: Sequence[jax.Array],
  biases: Sequence[jax.Array | None],
  scanned: bool,
) -> jax.Array:
  """Returns the product of activation(gate + bias) over gates [..., F] with biases [F] or None.

  Only the gates as they come are kept for the gradient. Outside of a scan the compiler sees both
  passes at once and would still keep what they have in common, up to three more arrays of the
  gates' size. On GPUs, where that costs time, a barrier prevents it.

  Args:
    names: keys of ACTIVATIONS, one per gate.
    scanned: whether this runs in a scan over layers.
  """
  barrier = not scanned and active_mesh.current_platform() == "gpu"
  return jax.checkpoint(_activate, static_argnums=(0,), prevent_cse=barrier)(names, gates, biases)


def _activate(names, gates, biases):
  activated = [
    ACTIVATIONS[name](gate if bias is None else gate + bias)
    for name, gate, bias in zip(names, gates, biases, strict=True)
  ]
  return math.prod(activated[1:], start=activated[0])


def project(x: jax.Array, kernel: jax.Array, in_fp8: bool = False) -> jax.Array:
  """Returns x [..., D] @ kernel [D, F], which is [..., F].

  The leading dimensions are flattened first: the kernel's gradient then contracts one dimension, a
  plain product of matrices, which XLA runs faster on CPUs. Where the length is split over devices
  nothing is flattened, because the flat dimension would have no sharding.
  """
  product = fp8.project if in_fp8 else jnp.matmul
  if x.ndim == 3 and nn.logical_to_mesh_axes(("batch", "length"))[1] is not None:
    return product(x, kernel)
  return product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], kernel.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def normalize(
  centred: bool, epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array | None
) -> jax.Array:
  """Returns (x - mean, if centred) / deviation * scale + bias, of x [..., D], in float32.

  Mean and deviation are those of the last dimension. For the gradient, x is kept in its own dtype
  and two numbers per vector; JAX's own gradient keeps several float32 arrays of x's size.
  """
  return _normalize_forward(centred, epsilon, x, scale, bias)[0]


def _normalize_forward(centred, epsilon, x, scale, bias):
  y, mean = x.astype(jnp.float32), None
  if centred and x.dtype == jnp.bfloat16:
    # One pass over x. Relative to an entry of x itself, the difference of the two squares loses at
    # most a fraction of about D 2^-24, however far x is from zero.
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


normalize.defvjp(_normalize_forward, _normalize_backward)


def look_up(table: jax.Array, ids: jax.Array) -> jax.Array:
  """Returns the rows of table [V, D] at ids [B, L], which is [B, L, D]."""
  if active_mesh.current_platform() == "gpu":
    return _look_up_on_gpu(table, ids)
  return jnp.take(table, ids, axis=0)


@jax.custom_vjp
def _look_up_on_gpu(table, ids):
  return jnp.take(table, ids, axis=0)


def _look_up_backward(kept, gradient):
  """Sums the gradients of equal ids with a product, then adds the sums to the table, in float32.

  A GPU adds to the same row of the table one token after the other, and padding, token types and
  frequent words repeat: an id may occur a hundred times in one row of a BERT batch.
  """
  table, ids = kept
  if ids.shape[0] > 1:  # Split as the vectors are: see Embed.
    ids = nn.with_logical_constraint(ids, ("table_batch", None))
    gradient = nn.with_logical_constraint(gradient, ("table_batch", None, "embed"))
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32, precision="highest")
  if table.shape[0] <= _FEW_ROWS:
    chosen = jax.nn.one_hot(ids, table.shape[0], dtype=gradient.dtype)
    return product("blv,bld->vd", chosen, gradient).astype(table.dtype), None
  length, block = ids.shape[-1], min(ids.shape[-1], _TOKENS_PER_BLOCK)
  nowhere, padding = table.shape[0], -length % block
  ids = jnp.pad(ids, ((0, 0), (0, padding)), constant_values=nowhere)
  gradient = jnp.pad(gradient, ((0, 0), (0, padding), (0, 0)))
  ids = ids.reshape(ids.shape[0], -1, block)  # [B, blocks, block]
  gradient = gradient.reshape(*ids.shape, -1)
  same = ids[..., :, None] == ids[..., None, :]
  sums = product("bnij,bnjd->bnid", same.astype(gradient.dtype), gradient)
  first = same.argmax(-1) == jnp.arange(block)  # The first of equal ids carries their sum.
  by_table = jnp.zeros(table.shape, jnp.float32)
  by_table = by_table.at[jnp.where(first, ids, nowhere)].add(sums, mode="drop")
  return by_table.astype(table.dtype), None


_look_up_on_gpu.defvjp(
  lambda table, ids: (_look_up_on_gpu(table, ids), (table, ids)), _look_up_backward
)


@jax.custom_vjp
def look_up_biases(table: jax.Array, bucket: jax.Array) -> jax.Array:
  """Returns the columns of table [N, buckets] at bucket [L, S], which is [N, L, S]."""
  return jnp.take(table, bucket, axis=1)


def _look_up_biases_backward(kept, gradient):
  """Computes the gradient as a product: a GPU would add to each entry of the table in sequence.

  The one-hot array [L, S, buckets] is no larger than the logits of a few heads.
  """
  table, bucket = kept
  one_hot = jax.nn.one_hot(bucket, table.shape[1], dtype=gradient.dtype)
  by_table = jnp.einsum(
    "nls,lsr->nr",
    gradient,
    one_hot,
    preferred_element_type=jnp.float32,
    precision="highest",
  )
  return by_table.astype(table.dtype), None


look_up_biases.defvjp(
  lambda table, bucket: (look_up_biases(table, bucket), (table, bucket)), _look_up_biases_backward
)


@jax.custom_vjp
def add_to_rows(x: jax.Array, bias: jax.Array) -> jax.Array:
  """Returns x [B, ...] + bias [1, ...]."""
  return x + bias


def _add_to_rows_backward(_, gradient):
  """Sums the bias' gradient over B; on CPUs as a product with ones.

  XLA's CPU code takes fifty times as long for a sum over the first dimension.
  """

  def product(x):
    ones = jnp.ones(x.shape[:1], x.dtype)
    return jnp.tensordot(ones, x, 1, precision="highest")[None]

  by_bias = jax.lax.platform_dependent(
    gradient, cpu=product, default=lambda x: x.sum(0, keepdims=True)
  )
  return gradient, by_bias


add_to_rows.defvjp(lambda x, bias: (x + bias, None), _add_to_rows_backward)
