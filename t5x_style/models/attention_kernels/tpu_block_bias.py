"""A bias by distance in the kernels of tpu_blocks.py: taken from a few slices, spread over logits.

The bias of a pair of blocks depends only on how far apart they are, and beyond R not even on that.
So there is a slice for each distance of near blocks, in numbers of blocks, and one to either side
for all that are further away. Entry i of a slice belongs to the pairs of query r and key c of the
two blocks with q - 1 - r + c = i.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from t5x_style.hardware import TPU_LANES

_SUBLANES = 8  # rows of a TPU's vector


def width(block: int) -> int:
  """Returns the numbers in a slice: the distances in a pair of blocks, in whole lanes."""
  return -(-(2 * block - 1) // TPU_LANES) * TPU_LANES


def near_blocks(bias: jax.Array, block: int) -> int:
  """Returns how many slices there are, for pairs of -c to c blocks apart: 2 c + 1.

  In the first and the last slice all numbers are the same.
  """
  reach = (bias.shape[1] - 1) // 2
  return 2 * (-(-reach // block) + 1) + 1


def slices(bias: jax.Array, block: int) -> jax.Array:
  """Cuts a bias by distance, [N, 2 R + 1], into slices [N, 2 c + 1, width], the leftmost first."""
  count, size, reach = near_blocks(bias, block), width(block), (bias.shape[1] - 1) // 2
  # The first distance is that of the last query and the first key of blocks that are -c apart.
  before = (count // 2 + 1) * block - 1 - reach
  padded = jnp.pad(bias, ((0, 0), (before, count * block + size)), mode="edge")
  return jnp.stack([padded[:, i * block :][:, :size] for i in range(count)], 1)


def spread(near: jax.Array, is_far: jax.Array, block: int) -> jax.Array:
  """Returns the bias [block, block] of a pair from its slice [1, width].

  Each row is the row before, moved by one place. Eight rows are made first, in steps of 1, 2 and 4
  places; all others are these, moved together.

  Args:
    is_far: whether all numbers of the slice are the same.
  """
  size = near.shape[1]

  def moved():
    rows = jnp.broadcast_to(near, (_SUBLANES, size))
    row = jax.lax.broadcasted_iota(jnp.int32, rows.shape, 0)
    for places in (1, 2, 4):
      rows = jnp.where((row & places) != 0, pltpu.roll(rows, places, 1), rows)
    first = size - (block - 1)  # Query 0 begins with entry block - 1.
    groups = [
      pltpu.roll(rows, (first + group) % size, 1)[:, :block] for group in range(0, block, _SUBLANES)
    ]
    return jnp.concatenate(groups, 0)

  return jax.lax.cond(is_far, lambda: jnp.broadcast_to(near[:, :block], (block, block)), moved)


def sums_by_distance(by_logits: jax.Array) -> jax.Array:
  """Returns the gradient [1, width] of a slice from that of a pair's logits [block, block].

  It undoes `spread`: groups of eight rows are moved back and summed, then these eight rows.
  """
  block, size = by_logits.shape[0], width(by_logits.shape[0])
  rows = jnp.pad(by_logits, ((0, 0), (0, size - block)))
  total = jnp.zeros((_SUBLANES, size), jnp.float32)
  for group in range(0, block, _SUBLANES):
    places = block - _SUBLANES - group
    together = rows[group : group + _SUBLANES]
    total += pltpu.roll(together, places, 1) if places else together
  row = jax.lax.broadcasted_iota(jnp.int32, total.shape, 0)
  for places in (1, 2, 4):
    moves = ((_SUBLANES - 1 - row) & places) != 0
    total = jnp.where(moves, pltpu.roll(total, places, 1), total)
  return total.sum(0, keepdims=True)
