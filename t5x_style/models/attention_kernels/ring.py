"""Ring attention: exact attention of rows that are split over devices, for any platform.

Each device keeps its own queries. Keys and values travel around the ring of the devices that share
a row, from neighbour to neighbour, while attention to those that have arrived is computed (Liu et
al. 2023, section 3). No device holds the keys of a whole row, or logits of more than a pair of
blocks. The backward pass is a ring too: gradients of keys and values follow them, and end where the
keys came from.

In causal rows the last queries see the most keys. So each device computes an early and a late part
of a row, for example 0 and 7, 1 and 6, 2 and 5, 3 and 4 of eight parts on four devices (zig-zag
order). All devices then have the same work in every step. Parts are exchanged for it before and
after. With a window that is not needed, and keys travel only as far as queries see.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from t5x_style.hardware import TPU_LANES
from t5x_style.models.attention_kernels import blockwise, tpu_blocks
from t5x_style.models.attention_kernels.blockwise import Blocks
from t5x_style.models.attention_kernels.head_sharding import heads_error, repeat_key_heads
from t5x_style.models.attention_kernels.pattern import (
  OUTPUT_NAME,
  AttentionInputs,
  AttentionSpec,
  Pattern,
)
from t5x_style.partitioning.active_mesh import (
  current_platform,
  mesh_axes,
  num_shards,
  on_each_device,
)

PLATFORM, TITLE = None, "ring attention"
PATTERN_FIELDS = frozenset({"query_segments", "key_segments", "prefix", "causal", "window"})

_BLOCK = 512  # The most tokens in a block.
_MULTIPLE = TPU_LANES  # Blocks of parts that are longer than this are multiples of it.
_HEADS, _TOKENS = ("batch", "length", "heads", "kv"), ("batch", "length")


def reason_against(spec: AttentionSpec) -> str | None:
  """Returns why ring attention cannot compute this, or None if it can."""
  (_, L, _, _), (_, S, _, _) = spec.queries, spec.keys
  shards = num_shards(_TOKENS)[1]
  if shards == 1:
    return "ring attention is for rows that are split over devices, along sequence in MESH_SHAPE"
  axes = mesh_axes(_TOKENS)
  if axes and len(axes[1]) > 1:
    return f"ring attention needs rows that are split along one mesh axis, not {axes[1]}"
  if L % shards or S % shards:
    return f"{L} queries and {S} keys do not divide over {shards} devices"
  return lengths_error(spec) or heads_error(spec)


def lengths_error(spec: AttentionSpec) -> str | None:
  """Returns why positions of queries and keys are not the same, where that is needed, or None."""
  L, S, pattern = spec.queries[1], spec.keys[1], spec.pattern
  if L != S and (pattern.causal or pattern.window is not None or spec.bias):
    return f"{L} queries and {S} keys do not have the same positions"
  return None


def make_mask(pattern: Pattern, query_length: int, key_length: int) -> None:
  """Returns None: the kernel computes its masks itself, block by block."""
  del pattern, query_length, key_length


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  inputs: AttentionInputs,
  scale: float,
  soft_cap: float | None,
) -> jax.Array:
  """Computes attention as `attention.attend` does; the bias is given by distance."""
  pattern, bias = inputs.pattern, inputs.bias
  key, value = (repeat_key_heads(x, query.shape[2]) for x in (key, value))
  query = (query * scale).astype(query.dtype)
  bias = None if bias is None else bias.astype(jnp.float32)  # Many logits add to its gradient.
  queries, keys = {"query": query}, {"key": key, "value": value}
  if pattern.key_segments is not None:
    keys["segments"] = pattern.key_segments
    if pattern.query_segments is not None:
      queries["segments"] = pattern.query_segments
  if pattern.prefix is not None:
    queries["prefix"] = keys["prefix"] = pattern.prefix

  def names(arrays: dict[str, jax.Array]) -> dict[str, Any]:
    return {name: _HEADS if x.ndim == 4 else _TOKENS for name, x in arrays.items()}

  in_names = (names(queries), names(keys), None if bias is None else ("heads", None))
  on_device = functools.partial(_attend, _ring(pattern, soft_cap, query.shape[1]))
  return on_each_device(on_device, in_names, _HEADS)(queries, keys, bias)


class _Ring(NamedTuple):
  """The compile-time parameters of the kernel.

  Attributes:
    axes: the mesh axes along which rows are split; () if they are not.
    devices: in the ring.
    part: queries of a part of the row; a device has two in zig-zag order, otherwise one.
    zigzag: whether a device computes an early and a late part of the row.
    after: how many devices further along the row the first keys come from; keys of the devices
      before them follow.
    steps: of how many devices the keys are used, one after the other.
  """

  rules: blockwise.Rules
  axes: tuple[str, ...]
  devices: int
  part: int
  zigzag: bool
  after: int
  steps: int
  on_tpu: bool


def _ring(pattern: Pattern, soft_cap: float | None, length: int) -> _Ring:
  """Returns the parameters for rows of `length` queries."""
  rules = blockwise.Rules(pattern.causal, pattern.window, soft_cap)
  split = mesh_axes(_TOKENS)
  axes, devices = (split[1] if split else ()), num_shards(_TOKENS)[1]
  part, after, steps = length // devices, 0, devices
  zigzag = pattern.causal and pattern.window is None and devices > 1 and part % 2 == 0
  if zigzag:
    part //= 2
  if pattern.window is not None:
    before = math.ceil(pattern.window / part)
    ahead = 0 if pattern.causal and pattern.prefix is None else before
    if before + ahead + 1 < devices:
      after, steps = ahead, before + ahead + 1
  return _Ring(rules, axes, devices, part, zigzag, after, steps, current_platform() == "tpu")


def _attend(ring: _Ring, queries: Blocks, keys: Blocks, bias: jax.Array | None) -> jax.Array:
  """Computes one device's part of the attention: [B, L, N, H], L of the device, to the same."""
  length, groups = queries["query"].shape[1], keys["key"].shape[2]
  if ring.zigzag:
    queries, keys = jax.tree.map(functools.partial(_exchange, ring), (queries, keys))
  parts = 2 if ring.zigzag else 1
  keys = _hide_padding(keys, parts)
  out = _around(ring, _cut(queries, parts, groups), _cut(keys, parts, groups), bias)
  out = _without_padding(blockwise.whole(out), parts, length)
  return _exchange(ring, out, back=True) if ring.zigzag else out


def _exchange(ring: _Ring, x: jax.Array, back: bool = False) -> jax.Array:
  """Exchanges halves of the devices' parts of a row, to zig-zag order or back.

  Of 2 P halves of a row, device i has 2 i and 2 i + 1; in zig-zag order i and 2 P - 1 - i.
  """
  P, index = ring.devices, jax.lax.axis_index(ring.axes)
  device = lambda half: min(half, 2 * P - 1 - half)  # that has this half in zig-zag order
  evens, odds = ([(i, device(2 * i + odd)) for i in range(P)] for odd in (0, 1))
  is_even = index % 2 == 0
  first, second = jnp.split(x, 2, axis=1)
  if not back:
    even, odd = (
      jax.lax.ppermute(half, ring.axes, moves) for half, moves in ((first, evens), (second, odds))
    )
    return jnp.where(is_even, jnp.concatenate([even, odd], 1), jnp.concatenate([odd, even], 1))
  even, odd = jnp.where(is_even, first, second), jnp.where(is_even, second, first)
  return jnp.concatenate(
    [
      jax.lax.ppermute(half, ring.axes, [(there, here) for here, there in moves])
      for half, moves in ((even, evens), (odd, odds))
    ],
    axis=1,
  )


def _block_size(length: int) -> int:
  """Returns the tokens in a block of a part of a row: all of it, or whole lanes of a TPU."""
  if length <= _MULTIPLE:
    return length
  pieces = math.ceil(length / _BLOCK)
  return math.ceil(length / pieces / _MULTIPLE) * _MULTIPLE


def _hide_padding(keys: Blocks, parts: int) -> Blocks:
  """Adds segment ids where padding of the blocks has to be hidden, and nothing else hides it."""
  length = keys["key"].shape[1] // parts
  if "segments" in keys or length % _block_size(length) == 0:
    return keys
  return keys | {"segments": jnp.ones(keys["key"].shape[:2], jnp.int32)}


def _cut(arrays: Blocks, parts: int, groups: int) -> Blocks:
  """Pads each part of a device's tokens to whole blocks of zeros, and cuts it into blocks."""

  def one(x):
    x = x.reshape(x.shape[0], parts, -1, *x.shape[2:])
    block = _block_size(x.shape[2])
    x = jnp.pad(x, [(0, 0), (0, 0), (0, -x.shape[2] % block)] + [(0, 0)] * (x.ndim - 3))
    x = x.reshape(x.shape[0], -1, *x.shape[3:])
    return blockwise.cut(x, block) if x.ndim == 2 else blockwise.cut_heads(x, block, groups)

  cut = {name: one(x) for name, x in arrays.items()}
  return {name: x.squeeze(3) if name in ("key", "value") else x for name, x in cut.items()}


def _without_padding(x: jax.Array, parts: int, length: int) -> jax.Array:
  """Undoes the padding of `_cut`: [B, padded, N, H] -> [B, length, N, H]."""
  apart = x.reshape(x.shape[0], parts, -1, *x.shape[2:])[:, :, : length // parts]
  return apart.reshape(x.shape[0], length, *x.shape[2:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _around(ring: _Ring, queries: Blocks, keys: Blocks, bias: jax.Array | None) -> jax.Array:
  """Lets the keys travel; returns the output, like "query"."""
  return _around_forward(ring, queries, keys, bias)[0]


def _around_forward(ring, queries, keys, bias):
  """Returns _around's output, and what the backward pass needs."""
  blocks = _blocks(ring, queries, keys, bias)

  def attend(keys, step):
    placed = _place(ring, queries, 0), _place(ring, keys, ring.after - step)
    return blocks.forward(ring.rules, *placed, bias)

  def move(carry, step):
    keys, before = carry
    arriving = _shift(ring, keys, 1)  # Nothing below waits for it.
    return (arriving, blockwise.merge(before, attend(keys, step))), None

  shape = queries["query"].shape
  nothing = jnp.zeros(shape), jnp.full(shape[:-1], blockwise.NOTHING)
  arrived, found = _shift(ring, keys, -ring.after), nothing
  if ring.steps > 1:
    (arrived, found), _ = jax.lax.scan(move, (arrived, found), jnp.arange(ring.steps - 1))
  out, lse = blockwise.merge(found, attend(arrived, ring.steps - 1))
  out, lse = (checkpoint_name(x, OUTPUT_NAME) for x in (out.astype(queries["query"].dtype), lse))
  return out, (queries, keys, bias, out, lse)


def _around_backward(ring, kept, by_out):
  """Returns the gradients of _around's arrays, None for integers."""
  queries, keys, bias, out, lse = kept
  mean = (by_out.astype(jnp.float32) * out).sum(-1)
  own = _place(ring, queries | {"by_out": by_out, "lse": lse, "mean": mean}, 0)
  zeros = lambda x: jnp.zeros(x.shape, jnp.float32)
  blocks = _blocks(ring, queries, keys, bias)

  def add(carry, keys, step):
    """Adds the gradients through these keys; those of keys are of the step before, and move on."""
    by_query, by_keys, by_bias = carry
    by_keys = _shift(ring, by_keys, 1)
    part = blocks.backward(ring.rules, own, _place(ring, keys, ring.after - step), bias)
    by_keys = tuple(x + y for x, y in zip(by_keys, (part.key, part.value), strict=True))
    return by_query + part.query, by_keys, None if bias is None else by_bias + part.bias

  def move(carry, step):
    keys, sums = carry
    arriving = _shift(ring, keys, 1)  # Nothing below waits for it.
    return (arriving, add(sums, keys, step)), None

  sums = (
    zeros(queries["query"]),
    (zeros(keys["key"]), zeros(keys["value"])),
    None if bias is None else zeros(bias),
  )
  arrived = _shift(ring, keys, -ring.after)
  if ring.steps > 1:
    (arrived, sums), _ = jax.lax.scan(move, (arrived, sums), jnp.arange(ring.steps - 1))
  by_query, by_keys, by_bias = add(sums, arrived, ring.steps - 1)
  by_key, by_value = _shift(ring, by_keys, ring.after + 1 - ring.steps)
  gradients = {"query": by_query, "key": by_key, "value": by_value}
  of = lambda arrays: {
    name: gradients[name].astype(x.dtype) if name in gradients else None
    for name, x in arrays.items()
  }
  return of(queries), of(keys), by_bias


_around.defvjp(_around_forward, _around_backward)


def _blocks(ring: _Ring, queries: Blocks, keys: Blocks, bias: jax.Array | None) -> Any:
  """Returns the module that computes pairs of blocks."""
  part = ring.part if ring.devices > 1 else 0  # On one device all blocks follow each other.
  fits = ring.on_tpu and tpu_blocks.fits(queries, keys, bias, part)
  return tpu_blocks if fits else blockwise


def _shift(ring: _Ring, tree: Any, places: int) -> Any:
  """Sends arrays to the device `places` further along the ring; negative: before it."""
  if ring.devices == 1 or places % ring.devices == 0:
    return tree
  moves = [(i, (i + places) % ring.devices) for i in range(ring.devices)]
  return jax.tree.map(lambda x: jax.lax.ppermute(x, ring.axes, moves), tree)


def _place(ring: _Ring, blocks: Blocks, away: jax.Array | int) -> Blocks:
  """Adds "start", as these blocks are those of the device `away` further along the row."""
  x = blocks["query"] if "query" in blocks else blocks["key"]
  index = jax.lax.axis_index(ring.axes) if ring.devices > 1 else 0
  device = (index + away) % ring.devices
  parts = [device, 2 * ring.devices - 1 - device] if ring.zigzag else [device]
  within = jnp.arange(x.shape[0] // len(parts)) * x.shape[-2]
  return blocks | {"start": jnp.concatenate([part * ring.part + within for part in parts])}
