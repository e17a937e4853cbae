"""How many tokens meet the vocabulary at once, chosen so that their logits fit a budget."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.losses.placement import current_placement
from t5x_style.partitioning.active_mesh import current_platform

# Bytes of logits and of their gradient that may exist at once on a device. On accelerators a chunk
# of 1,024 tokens of the largest vocabularies, below which adding up the kernel's gradient would
# show; on CPUs what measured fastest (launch/benchmarks/NOTES.md for both).
_MEMORY_BUDGET = {"cpu": 256 * 2**20}
_MEMORY_BUDGET_OF_ACCELERATORS = 1536 * 2**20

# Large chunks are multiples of this, small ones of 8: the tiles of a matrix unit are filled.
_TILE = 128


class Chunking(NamedTuple):
  """The head and its loss on one device: `num_chunks` times `chunk_size` tokens in turn."""

  tokens: int  # of this device
  vocab_size: int  # of this device
  chunk_size: int
  num_chunks: int
  bytes: int  # of logits and their gradient, at most: XLA may keep less

  def __str__(self) -> str:
    """ "16 chunks of 1,024 tokens x 262,144 logits, 1.5 GiB"."""
    chunks = f"{self.num_chunks} chunks of " if self.num_chunks > 1 else ""
    mib = self.bytes / 2**20
    size = f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.1f} MiB"
    return f"{chunks}{self.chunk_size:,} tokens x {self.vocab_size:,} logits, {size}"


def plan_chunks(
  hidden_shape: Sequence[int],
  vocab_size: int,
  dtype: jax.typing.DTypeLike,
  chunk_size: int | None = None,
) -> Chunking:
  """What linear_cross_entropy does on each device, here and under the mesh in force.

  Args:
    hidden_shape: [..., D], of the whole batch.
    dtype: of the hidden states.
    chunk_size: tokens of a chunk; None takes as many as fit the memory set aside for them.
  """
  if chunk_size is not None and chunk_size < 1:
    raise ValueError(f"chunk_size = {chunk_size} must be at least 1, or None to have it chosen.")
  placement = current_placement(hidden_shape, vocab_size)
  leading = tuple(hidden_shape[:-1])
  if placement:
    leading = placement.local(leading)
    vocab_size //= placement.size(placement.vocab)
  return chunks_of_device(math.prod(leading), vocab_size, dtype, current_platform(), chunk_size)


def chunks_of_device(
  tokens: int,
  vocab_size: int,
  dtype: jax.typing.DTypeLike,
  platform: str,
  chunk_size: int | None = None,
) -> Chunking:
  """As plan_chunks, for one device that is not here or not under a mesh.

  Args:
    tokens, vocab_size: what the device has of them.
    platform: "cpu", "gpu" or "tpu".
  """
  # Logits in float32, their gradient in the dtype of the products.
  row = vocab_size * (4 + np.dtype(dtype).itemsize)
  size = chunk_size
  if size is None:
    budget = _MEMORY_BUDGET.get(platform, _MEMORY_BUDGET_OF_ACCELERATORS)
    size = _even_size(tokens, max(1, budget // row))
  size = max(1, min(size, tokens))
  return Chunking(tokens, vocab_size, size, math.ceil(tokens / size), size * row)


def _even_size(tokens: int, limit: int) -> int:
  """A size of at most about `limit` that cuts `tokens` into chunks without much padding."""
  if tokens <= limit:
    return tokens
  size = math.ceil(tokens / math.ceil(tokens / limit))
  tile = _TILE if size >= 8 * _TILE else 8
  return math.ceil(size / tile) * tile


def split(x: jax.Array, chunks: Chunking) -> jax.Array:
  """[T, ...] -> [chunks, size, ...], padded with zeros."""
  missing = chunks.num_chunks * chunks.chunk_size - x.shape[0]
  if missing:
    x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
  return x.reshape(chunks.num_chunks, chunks.chunk_size, *x.shape[1:])


def merge(x: jax.Array, chunks: Chunking) -> jax.Array:
  """Undoes split: [chunks, size, ...] -> [T, ...]."""
  return x.reshape(-1, *x.shape[2:])[: chunks.tokens]
