"""How many tokens meet the vocabulary at once, chosen so that their logits fit a budget."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Bytes of logits, and of their gradient, that may exist at once on a device.
MEMORY_BUDGET = 1280 * 2**20

# Chunks are multiples of this where they are larger: the tiles of a matrix unit are filled.
_TILE = 128


class Chunking(NamedTuple):
  """The head and its loss on one device: `num_chunks` times `chunk_size` tokens in turn."""

  tokens: int
  vocab_size: int
  chunk_size: int
  num_chunks: int
  bytes: int  # of temporary memory

  def __str__(self) -> str:
    """ "16 chunks of 1,024 tokens x 262,144 logits, 1.5 GiB"."""
    chunks = f"{self.num_chunks} chunks of " if self.num_chunks > 1 else ""
    mib = self.bytes / 2**20
    size = f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.1f} MiB"
    return f"{chunks}{self.chunk_size:,} tokens x {self.vocab_size:,} logits, {size}"


def plan_chunks(
  tokens: int, vocab_size: int, dtype: jax.typing.DTypeLike, chunk_size: int | None = None
) -> Chunking:
  """The chunks that `tokens` tokens of one device are cut into.

  Args:
    tokens, vocab_size: of one device.
    dtype: of the hidden states.
    chunk_size: tokens of a chunk; None takes as many as fit into MEMORY_BUDGET.
  """
  if chunk_size is not None and chunk_size < 1:
    raise ValueError(f"chunk_size = {chunk_size} must be at least 1, or None to have it chosen.")
  # Logits in float32, their gradient in the dtype of the products.
  row = vocab_size * (4 + np.dtype(dtype).itemsize)
  size = max(1, MEMORY_BUDGET // row) if chunk_size is None else chunk_size
  if chunk_size is None and size < tokens:
    # Chunks of about the same size: the last one is not mostly padding.
    size = math.ceil(tokens / math.ceil(tokens / size))
    tile = _TILE if size >= _TILE else 8
    size = math.ceil(size / tile) * tile
  size = max(1, min(size, tokens))
  return Chunking(tokens, vocab_size, size, math.ceil(tokens / size), size * row)


def split(x: jax.Array, chunks: Chunking) -> jax.Array:
  """[T, ...] -> [chunks, size, ...], padded with zeros.

  Tokens are dealt out like cards: of tokens that are split over devices, each chunk takes the same
  share of every device, and none moves.
  """
  missing = chunks.num_chunks * chunks.chunk_size - x.shape[0]
  if missing:
    x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
  return x.reshape(chunks.chunk_size, chunks.num_chunks, *x.shape[1:]).swapaxes(0, 1)


def merge(x: jax.Array, chunks: Chunking) -> jax.Array:
  """Undoes split: [chunks, size, ...] -> [T, ...]."""
  return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])[: chunks.tokens]


def leading_size(shape: Sequence[int]) -> int:
  """The number of tokens of [..., D]."""
  return math.prod(shape[:-1])
