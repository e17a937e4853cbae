"""Products of rows with the kernels of their experts, where experts have different numbers of rows.

TPUs have an instruction for it (jax.lax.ragged_dot). Elsewhere XLA would multiply every row with
the kernels of all experts, so the rows are cut into blocks that belong to one expert each, and the
blocks are multiplied one after the other.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.partitioning import active_mesh

_LARGEST_BLOCK = 256  # rows; more are no faster


class Groups(NamedTuple):
  """Where the rows of each expert are: expert e has those from starts[e] to ends[e]."""

  starts: jax.Array  # int32 [E]
  ends: jax.Array  # int32 [E]
  num_rows: int  # of all, and the unused ones
  block: int  # every start is a multiple of it


def groups(counts: jax.Array, total: int) -> Groups:
  """Lays out the rows of the experts one after the other.

  Args:
    counts: int32 [E], the rows of each expert, of at most `total` together.
  """
  size = len(counts)
  block = 1 if _is_tpu() else _block(total, size)
  rows = -(-counts // block) * block
  ends = jnp.cumsum(rows)
  most = total + min(size, total) * (block - 1)
  num_rows = -(-most // block) * block
  return Groups(ends - rows, ends, num_rows, block)


def _is_tpu() -> bool:
  return active_mesh.current_platform() == "tpu"


def _block(total, size):
  """Returns a power of two of at most a quarter of an expert's mean number of rows."""
  quarter = max(total // (4 * size), 1)
  return min(1 << (quarter.bit_length() - 1), _LARGEST_BLOCK)


def grouped_product(x: jax.Array, kernels: jax.Array, where: Groups) -> jax.Array:
  """Returns x [rows, D] times the kernel of each row's expert, [rows, F].

  Args:
    kernels: [E, D, F].
    where: of the rows; those that no expert has may have any result that is finite.
  """
  if _is_tpu():
    return jax.lax.ragged_dot(x, kernels, where.ends - where.starts)
  blocks = jnp.arange(0, where.num_rows, where.block)
  expert = (where.starts <= blocks[:, None]).sum(1) - 1
  product = _block_products(x.reshape(len(blocks), where.block, -1), kernels, expert)
  return product.reshape(where.num_rows, -1)


@jax.custom_vjp
def _block_products(x, kernels, expert):
  """Returns x [blocks, rows, D] times kernels [E, D, F] at expert [blocks]."""
  return jax.lax.map(lambda one: one[0] @ kernels[one[1]], (x, expert))


def _forward(x, kernels, expert):
  return _block_products(x, kernels, expert), (x, kernels, expert)


def _backward(kept, gradient):
  x, kernels, expert = kept
  by_x = jax.lax.map(lambda one: one[0] @ kernels[one[1]].T, (gradient, expert))

  def add(total, one):
    block, by_product, at = one
    product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
    sum_at = jax.lax.dynamic_index_in_dim(total, at, keepdims=False) + product(block.T, by_product)
    return jax.lax.dynamic_update_index_in_dim(total, sum_at, at, 0), None

  zeros = jnp.zeros(kernels.shape, jnp.float32)
  by_kernels, _ = jax.lax.scan(add, zeros, (x, gradient, expert))
  return by_x, by_kernels.astype(kernels.dtype), None


_block_products.defvjp(_forward, _backward)
