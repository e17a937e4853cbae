"""Digests of arrays: 64 bits that tell whether the numbers of an array are those that were saved.

A digest depends on the bits of every number and on its position in the whole array, and on nothing
else. So it is the same for every mesh and every way to cut the array into chunks, and every device
sums up its own part. Each of the two halves of a digest is a sum modulo 2**32:

    sum over all positions of mix(bits XOR mix(mix(row + seed) + column))

`column` is the index along the last axis, `row` the flat index along all axes before it. `mix` is
bijective, so a change of one number always changes both sums; any other change leaves the digest
as it is with a probability of about 2**-64. It protects against damage, not against forgery.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from t5x_style.checkpoints.array_pieces import Index, pieces
from t5x_style.checkpoints.arrays import LazyArray
from t5x_style.training.state import named_leaves

_SEEDS = (0x9E3779B9, 0x7F4A7C15)
_BLOCK = 1 << 17  # numbers that NumPy mixes at once: they stay in the processor's cache


def digests(tree: Any) -> dict[str, str]:
  """Returns the digests of a tree of arrays: {"params/.../kernel": 16 hexadecimal digits}.

  Every device reads its own part of the arrays, where it is; only sums are copied to the host. All
  processes of a job have to call this together, and get the same digests.

  Args:
    tree: of jax.Arrays, whose numbers have 8, 16 or 32 bits or are bool.
  """
  named = named_leaves(tree)
  parts = [(i, x) for i, array in enumerate(named.values()) for x in _sums_of_parts(array)]
  sums = np.zeros((len(named), 2), np.uint32)
  for i, part in zip((i for i, _ in parts), jax.device_get([x for _, x in parts]), strict=True):
    sums[i] += part
  if jax.process_count() > 1:
    sums = multihost_utils.process_allgather(sums).sum(axis=0, dtype=np.uint32)
  return dict(zip(named, map(_text, sums), strict=True))


def digest_of(array: LazyArray) -> str:
  """Returns the digest of a stored array; reads a few of its chunks at a time."""
  sums = np.zeros(2, np.uint32)
  for index in array.groups():
    sums += _sums_on_the_host(np.asarray(array.fetch(index)), index, array.shape)
  return _text(sums)


def _sums_of_parts(array: jax.Array) -> list[jax.Array]:
  """Begins to sum up the parts of an array on the devices of this process; each uint32 [2]."""
  shape = np.array(array.shape or (1,), np.uint32)
  sums = []
  for shard in array.addressable_shards:
    if shard.replica_id == 0:
      first = np.array([i.start or 0 for i in shard.index] or [0], np.uint32)
      sums.append(_sums_on_a_device(shard.data, first, shape))
  return sums


@jax.jit
def _sums_on_a_device(part: jax.Array, first: jax.Array, shape: jax.Array) -> jax.Array:
  """Returns the share of both sums that a part of an array has, uint32 [2].

  Args:
    first: the position of its first number along each axis.
    shape: of the whole array.
  """
  if part.dtype == jnp.bool_:
    bits = part.astype(jnp.uint32)
  else:
    unsigned = jnp.dtype(f"uint{part.dtype.itemsize * 8}")
    bits = jax.lax.bitcast_convert_type(part, unsigned).astype(jnp.uint32)
  bits = bits.reshape(bits.shape or (1,))
  axes = [first[i] + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, i) for i in range(bits.ndim)]
  row, column = _row(axes[:-1], shape), axes[-1]
  # One pass over the numbers: XLA for CPUs would store all terms of a reduction of one operand.
  return jnp.stack(
    jax.lax.reduce(
      [_terms(bits, row, column, seed) for seed in _SEEDS],
      [jnp.uint32(0)] * len(_SEEDS),
      functools.partial(jax.tree.map, jnp.add),
      range(bits.ndim),
    )
  )


def _sums_on_the_host(part: np.ndarray, index: Index, shape: Sequence[int]) -> np.ndarray:
  """Returns the same as _sums_on_a_device, of the part of an array that is at `index`."""
  axes = [np.asarray(axis, np.uint32) for axis in np.ogrid[index or (slice(0, 1),)]]
  lead = part.shape[:-1]
  rows = np.broadcast_to(_row(axes[:-1], np.array(shape, np.uint32)), (*lead, 1)).reshape(-1, 1)
  columns = axes[-1].reshape(1, -1)
  bits = np.ascontiguousarray(part).view(f"uint{part.dtype.itemsize * 8}")
  bits = bits.reshape(math.prod(lead), columns.size)
  width = min(columns.size, _BLOCK)
  sums = np.zeros(2, np.uint32)
  for block in pieces(bits.shape, (max(1, _BLOCK // width), width)):
    numbers, row, column = bits[block].astype(np.uint32), rows[block[0]], columns[:, block[1]]
    sums += [_terms(numbers, row, column, seed).sum(dtype=np.uint32) for seed in _SEEDS]
  return sums


def _terms(bits: Any, row: Any, column: Any, seed: int) -> Any:
  return _mix(bits ^ _mix(_mix(row + np.uint32(seed)) + column))


def _row(axes: Sequence[Any], shape: Any) -> Any:
  """Returns the flat index along the leading axes of an array, modulo 2**32.

  Args:
    axes: the index along each of them, shaped to broadcast.
    shape: of the whole array, uint32 [axes + 1].
  """
  row = np.zeros(1, np.uint32)
  for i, axis in enumerate(axes):
    row = row * shape[i] + axis
  return row


def _mix(x: Any) -> Any:
  """Mixes 32 bits; bijective. It is the last step of MurmurHash3 (Appleby 2011, fmix32)."""
  x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
  x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
  return x ^ (x >> np.uint32(16))


def _text(sums: np.ndarray) -> str:
  return "".join(f"{int(x):08x}" for x in sums)
