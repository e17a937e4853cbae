"""The types that all attention kernels share: what they compute, and which one is chosen."""

import dataclasses
import functools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

# The name of the Pallas kernels' outputs, by which remat policies can keep them.
OUTPUT_NAME = "attention"


class Pattern(flax.struct.PyTreeNode):
  """Who may attend to whom, as a description: each kernel draws only the mask that it needs.

  models/transformer.py builds patterns from the features of a batch; stack.py adds the window of a
  layer and, when decoding, the first query's position. A new field belongs in `mask`, which the XLA
  kernel applies whole, and in `sees_any_key` if it can hide every key. Other kernels are not chosen
  for patterns that set it until they compute it and their PATTERN_FIELDS names it.

  A query at position i sees the key at position j if all of these hold:
    causal: j <= i, or both are in the bidirectional prefix at the start of their document (T5,
      section 3.2.1);
    segments: query and key have the same id. Ids start at 1; 0 marks padding, which no query sees.
      If queries have no ids, keys with an id other than 0 are seen by all;
    window: |i - j| <= window, counted along the row (segments hide what is in other documents).

  Left: a causal row of two packed documents and padding. Right: a row of one document that is not
  causal, window 1. Rows are queries, columns keys:
    segments   1 1 2 2 0        1 . . . .          1 1 . . .
                                1 1 . . .          1 1 1 . .
                                . . 1 . .          . 1 1 1 .
                                . . 1 1 .          . . 1 1 1
                                . . . . .          . . . 1 1
  """

  query_segments: jax.Array | None = None  # [B, L]
  key_segments: jax.Array | None = None  # [B, S]
  prefix: jax.Array | None = None  # [B, L], 1 on the bidirectional prefix
  query_start: jax.Array | None = None  # scalar: the first query's position, decoding with a cache
  causal: bool = flax.struct.field(pytree_node=False, default=False)
  window: int | None = flax.struct.field(pytree_node=False, default=None)

  def mask(self, query_length: int, key_length: int) -> jax.Array | None:
    """Returns a boolean mask [B or 1, 1, L or 1, S], true where a key is seen; None if all are."""
    conditions = []
    queries = jnp.arange(query_length) + (0 if self.query_start is None else self.query_start)
    distance = (jnp.arange(key_length) - queries[:, None])[None, None]
    if self.causal:
      seen = distance <= 0
      if self.prefix is not None:
        prefix = self.prefix.astype(bool)
        seen |= prefix[:, None, :, None] & prefix[:, None, None, :]
      conditions.append(seen)
    if self.window is not None:
      conditions.append(jnp.abs(distance) <= self.window)
    if self.key_segments is not None:
      keys = self.key_segments[:, None, None, :]
      conditions.append(keys != 0)
      if self.query_segments is not None:
        conditions.append(keys == self.query_segments[:, None, :, None])
    return functools.reduce(jnp.logical_and, conditions) if conditions else None

  def fields_in_use(self) -> frozenset[str]:
    """Returns the names of the fields that differ from their default."""
    fields = dataclasses.fields(self)
    return frozenset(x.name for x in fields if getattr(self, x.name) is not x.default)

  def sees_any_key(self) -> jax.Array | None:
    """Returns a boolean [B, L or 1], false for queries that see no key; None if all see one."""
    queries, keys = self.query_segments, self.key_segments
    if keys is None:
      return None
    if queries is None:
      return (keys != 0).any(-1, keepdims=True)
    if queries is keys:
      return queries != 0  # Each sees itself.
    return ((queries[:, :, None] == keys[:, None, :]) & (keys != 0)[:, None, :]).any(-1)


class AttentionSpec(NamedTuple):
  """What a kernel is chosen by. Sizes are those of the whole batch, not of a device's part."""

  queries: tuple[int, int, int, int]  # B, L, N, H
  keys: tuple[int, int, int, int]  # B, S, K, H
  dtype: str
  pattern: Pattern
  bias: bool = False
  soft_cap: float | None = None
  dropout_rate: float = 0.0  # of the weights


class KernelChoice(NamedTuple):
  """The name of a kernel, and why it was chosen."""

  name: str
  reason: str = ""


XLA = KernelChoice("xla")


class WeightDropout(flax.struct.PyTreeNode):
  """Dropout of attention weights: a kept one is divided by 1 - rate, the others are zero."""

  key: jax.Array
  rate: float = flax.struct.field(pytree_node=False)
  shared_by_queries: bool = flax.struct.field(pytree_node=False)  # T5: one mask [S] for all of L


class AttentionInputs(flax.struct.PyTreeNode):
  """Pattern, mask, bias and kernel of an attention, shared by all layers with the same window."""

  pattern: Pattern
  mask: jax.Array | None = None  # [B or 1, 1, L or 1, S], from the kernel's make_mask
  # Added to the logits: [1, N, L, S], or [N, 2 R + 1] for kernels that take it by distance.
  bias: jax.Array | None = None
  sees_any_key: jax.Array | None = None  # [B, L or 1], as of the pattern
  kernel: KernelChoice = flax.struct.field(pytree_node=False, default=XLA)
  dropout: WeightDropout | None = None  # of one layer
