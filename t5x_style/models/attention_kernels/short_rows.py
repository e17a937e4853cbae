"""Attention of short rows for TPUs: a Pallas kernel whose logits never leave the chip.

All keys of a row of some hundred tokens fit on the chip, so the softmax needs no second pass over
them. The backward pass recomputes the weights from queries, keys and bias, and nothing else is kept
for it. The kernel adds T5's bias to the logits; splash attention cannot, and XLA writes the logits
[B, N, L, S] to memory several times.

One step of the grid computes a few heads, a block of queries and one row of the batch. Rows are the
innermost loop, so that a block of the bias [heads, queries, S] is read once for all rows and its
gradient is summed on the chip. If heads are narrower than the 128 lanes of a TPU, several are
computed together, side by side as the projections left them, without a transpose.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from t5x_style.hardware import TPU_LANES, TPU_VECTOR_MEMORY
from t5x_style.models.attention_kernels.head_sharding import heads_error
from t5x_style.models.attention_kernels.pattern import (
  OUTPUT_NAME,
  AttentionInputs,
  AttentionSpec,
  Pattern,
)
from t5x_style.models.attention_kernels.xla import HIDDEN
from t5x_style.partitioning.active_mesh import num_shards, on_each_device

PLATFORM, TITLE = "tpu", "the kernel for short rows"
PATTERN_FIELDS = frozenset({"query_segments", "key_segments", "prefix", "causal", "window"})

_ROWS = 16  # rows of a bfloat16 tile: blocks of queries are multiples of it
_MOST_QUERIES, _FEWEST_QUERIES = 512, 96  # of a block
_CHIP_BYTES = TPU_VECTOR_MEMORY * 13 // 16  # The rest is left to the compiler.
_FLAT = ("batch", None, "heads")
_PARAMETERS = pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary"))

# "query" [B, L, N H], "key" and "value" [B, S, N H]; if there are any, "bias" [N, L, S],
# "query_marks" [B, L, 2] and "key_marks" [B, 2, S]. L is a multiple of the block size.
_Arrays = dict[str, jax.Array]


def reason_against(spec: AttentionSpec) -> str | None:
  """Returns why this kernel cannot compute this, or None if it can."""
  if spec.soft_cap is not None:
    return "the kernel for short rows has no soft cap"
  if num_shards(("batch", "length"))[1] > 1:
    return "the kernel for short rows cannot split the length over devices"
  reason = heads_error(spec)
  if reason:
    return reason
  heads, width = spec.queries[2] // num_shards(("heads",))[0], spec.queries[3]
  together, keys = _together(heads, width), spec.keys[1]
  if _fitting(together, width, keys, spec.dtype) < min(spec.queries[1], _FEWEST_QUERIES):
    size = f"{together} x {width} numbers in {spec.dtype}"
    return f"{keys:,} keys of {size} do not fit on the chip at once"
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
  *,
  interpret: bool = False,
) -> jax.Array:
  """Computes attention as `attention.attend` does; `interpret` runs it slowly without a TPU."""
  del soft_cap  # See reason_against.
  pattern, bias = inputs.pattern, inputs.bias
  (B, L, N, H), S = query.shape, key.shape[1]
  key, value = (jnp.repeat(x, N // x.shape[2], axis=2) for x in (key, value))
  query = (query * scale).astype(query.dtype)
  arrays: _Arrays = {
    name: x.reshape(*x.shape[:2], N * H)
    for name, x in (("query", query), ("key", key), ("value", value))
  }
  names: dict[str, Any] = dict.fromkeys(arrays, _FLAT)
  if bias is not None:
    arrays["bias"], names["bias"] = bias[0], ("heads", None, None)
  if marks := _marks(pattern, B, L, S):
    arrays |= marks
    names |= dict.fromkeys(marks, ("batch", None, None))
  static = _static(query, S, pattern, interpret)
  if rest := -L % static.block:
    for name in arrays.keys() & {"query", "bias", "query_marks"}:
      arrays[name] = jnp.pad(arrays[name], ((0, 0), (0, rest), (0, 0)))
  on_device = functools.partial(_attend, static)
  out = on_each_device(on_device, (names,), _FLAT)(arrays)
  out = checkpoint_name(out[:, :L], OUTPUT_NAME)
  return out.reshape(B, L, N, H)


class _Static(NamedTuple):
  """The compile-time parameters of the kernel."""

  together: int  # heads per step of the grid
  width: int  # H
  block: int  # queries per step of the grid
  causal: bool
  prefix: bool
  window: int | None
  interpret: bool


def _static(query: jax.Array, S: int, pattern: Pattern, interpret: bool) -> _Static:
  """Returns the parameters for queries [B, L, N, H] on S keys."""
  _, L, N, H = query.shape
  together = _together(N // num_shards(("heads",))[0], H)
  fitting = _fitting(together, H, S, query.dtype)
  assert fitting > 0  # See reason_against.
  block, has_prefix = _block(L, fitting), pattern.prefix is not None
  return _Static(together, H, block, pattern.causal, has_prefix, pattern.window, interpret)


def _marks(pattern: Pattern, rows: int, L: int, S: int) -> _Arrays | None:
  """Returns int32 pairs (segment id, 1 on the prefix) of queries [B, L, 2] and keys [B, 2, S].

  Returns None if neither segments nor a prefix are given.
  """
  queries, keys = pattern.query_segments, pattern.key_segments
  if keys is None and pattern.prefix is None:
    return None
  if queries is None or keys is None:
    queries, ones = (jnp.ones((rows, n), jnp.int32) for n in (L, S))
    keys = ones if keys is None else jnp.where(keys == 0, -1, ones)
  query_prefix, key_prefix = jnp.zeros_like(queries), jnp.zeros_like(keys)
  if pattern.prefix is not None:  # So this is self-attention.
    query_prefix = key_prefix = pattern.prefix.astype(bool).astype(jnp.int32)
  return {
    "query_marks": jnp.stack([queries, query_prefix], axis=2),
    "key_marks": jnp.stack([keys, key_prefix], axis=1),
  }


def _fitting(together: int, width: int, S: int, dtype: Any) -> int:
  """Returns how many queries fit on the chip at once, by the memory of the backward pass."""
  wide, size = -(-together * width // TPU_LANES) * TPU_LANES, jnp.dtype(dtype).itemsize
  # Keys, values, queries, output and their gradients, each twice: one step computes while the next
  # one is being loaded.
  for_keys, for_query = 8 * S * wide * size, 8 * wide * size
  # The bias and its gradient twice, the gradient's float32 sum, and four arrays of a head's logits.
  for_query += S * (together * (4 * size + 4) + 4 * 4)
  return (_CHIP_BYTES - for_keys) // for_query


def _block(L: int, fitting: int) -> int:
  """Returns the number of queries of a block: all of a row, or an equal part of it."""
  most = min(_MOST_QUERIES, fitting)
  if L <= most:
    return L
  parts = -(-L // (most // _ROWS * _ROWS))
  return _ROWS * -(-L // (parts * _ROWS))


def _together(heads: int, width: int) -> int:
  """Returns how many heads fill whole lanes; all heads if no smaller number does."""
  together = max(1, TPU_LANES // width)
  return heads if heads % together or together * width % TPU_LANES else together


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(static: _Static, inputs: _Arrays) -> jax.Array:
  """Runs the kernel on one device's arrays; returns [B, L, N H]."""
  grid = _grid(static, inputs)
  query = inputs["query"]
  return pl.pallas_call(
    functools.partial(_forward_kernel, static),
    grid=grid.sizes,
    in_specs=[{name: grid.specs[name] for name in inputs}],
    out_specs=grid.specs["query"],
    out_shape=jax.ShapeDtypeStruct(query.shape, query.dtype),
    compiler_params=_PARAMETERS,
    cost_estimate=_cost(static, inputs, products=2),
    interpret=static.interpret,
  )(inputs)


def _attend_backward(static, inputs, by_out):
  grid = _grid(static, inputs)
  key, blocks = inputs["key"], grid.sizes[1]
  # Each block of queries has a part of the gradients of all keys and values.
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in inputs.items()}
  shapes["key"] = shapes["value"] = jax.ShapeDtypeStruct((blocks, *key.shape), key.dtype)
  specs = grid.specs | {"key": grid.specs["part"], "value": grid.specs["part"]}
  wanted = [name for name in ("query", "key", "value", "bias") if name in inputs]
  sums = grid.bias_shape if "bias" in inputs else (8, TPU_LANES)  # the latter is not used
  gradients = pl.pallas_call(
    functools.partial(_backward_kernel, static),
    grid=grid.sizes,
    in_specs=[{name: grid.specs[name] for name in inputs}, grid.specs["query"]],
    out_specs={name: specs[name] for name in wanted},
    out_shape={name: shapes[name] for name in wanted},
    scratch_shapes=[pltpu.VMEM(sums, jnp.float32)],
    compiler_params=_PARAMETERS,
    cost_estimate=_cost(static, inputs, products=5),
    interpret=static.interpret,
  )(inputs, by_out)
  for name in ("key", "value"):
    parts = gradients[name]
    gradients[name] = (
      parts[0] if blocks == 1 else parts.sum(0, dtype=jnp.float32).astype(parts.dtype)
    )
  return ({name: gradients.get(name) for name in inputs},)


_attend.defvjp(lambda static, inputs: (_attend(static, inputs), inputs), _attend_backward)


class _Grid(NamedTuple):
  sizes: tuple[int, int, int]  # groups of heads, blocks of queries, rows of the batch
  specs: dict[str, pl.BlockSpec]  # how each array is cut along the grid
  bias_shape: tuple[int, int, int]  # of a block: [heads, queries, S]


def _grid(static, inputs):
  (B, L, size), S = inputs["query"].shape, inputs["key"].shape[1]
  together, block = static.together, static.block
  wide = together * static.width
  keys = pl.BlockSpec((1, S, wide), lambda n, i, b: (b, 0, n))
  specs = {
    "query": pl.BlockSpec((1, block, wide), lambda n, i, b: (b, i, n)),
    "key": keys,
    "value": keys,
    "part": pl.BlockSpec((1, 1, S, wide), lambda n, i, b: (i, b, 0, n)),
    "bias": pl.BlockSpec((together, block, S), lambda n, i, b: (n, i, 0)),
    "query_marks": pl.BlockSpec((1, block, 2), lambda n, i, b: (b, i, 0)),
    "key_marks": pl.BlockSpec((1, 2, S), lambda n, i, b: (b, 0, 0)),
  }
  return _Grid((size // wide, L // block, B), specs, (together, block, S))


def _cost(static, inputs, products):
  (B, L, size), S = inputs["query"].shape, inputs["key"].shape[1]
  read = sum(x.size * x.dtype.itemsize for x in inputs.values())
  return pl.CostEstimate(
    flops=products * 2 * B * L * S * size,
    transcendentals=B * (size // static.width) * L * S,
    bytes_accessed=read * products // 2,
  )


def _forward_kernel(static, inputs, out):
  seen = _seen(static, inputs)
  for n, head in _heads(static):
    value = inputs["value"][0, :, head]
    weights, total = _weights(inputs, n, head, seen)
    mean = _product(weights.astype(value.dtype), value, 1, 0)
    out[0, :, head] = (mean / total).astype(out.dtype)


def _backward_kernel(static, inputs, by_out, gradients, sums):
  seen = _seen(static, inputs)
  row, rows = pl.program_id(2), pl.num_programs(2)
  if "bias" in inputs:

    @pl.when(row == 0)
    def _():
      sums[...] = jnp.zeros_like(sums)

  for n, head in _heads(static):
    query, key, value = (inputs[name][0, :, head] for name in ("query", "key", "value"))
    by_out_n = by_out[0, :, head]
    weights, total = _weights(inputs, n, head, seen)
    weights /= total
    by_weights = _product(by_out_n, value, 1, 1)
    by_logits = weights * (by_weights - (weights * by_weights).sum(-1, keepdims=True))
    if "bias" in inputs:
      sums[n] += by_logits
    by_logits, weights = by_logits.astype(query.dtype), weights.astype(query.dtype)
    gradients["query"][0, :, head] = _product(by_logits, key, 1, 0).astype(query.dtype)
    gradients["key"][0, 0, :, head] = _product(by_logits, query, 0, 0).astype(query.dtype)
    gradients["value"][0, 0, :, head] = _product(weights, by_out_n, 0, 0).astype(query.dtype)

  if "bias" in inputs:

    @pl.when(row == rows - 1)
    def _():
      gradients["bias"][...] = sums[...].astype(gradients["bias"].dtype)


def _heads(static):
  """Yields each head of this step: its index in a block of the bias, and its lanes."""
  for n in range(static.together):
    yield n, slice(n * static.width, (n + 1) * static.width)


def _weights(inputs, n, head, seen):
  """Returns float32 exp(logits - maximum) [queries, S] and its sum over keys [queries, 1]."""
  logits = _product(inputs["query"][0, :, head], inputs["key"][0, :, head], 1, 1)
  if "bias" in inputs:
    logits += inputs["bias"][n].astype(jnp.float32)
  if seen is not None:
    logits = jnp.where(seen, logits, HIDDEN)
  weights = jnp.exp(logits - logits.max(-1, keepdims=True))
  return weights, weights.sum(-1, keepdims=True)


def _product(x, y, x_axis, y_axis):
  """Returns the product of two matrices, contracting one axis of each, in float32."""
  axes = (((x_axis,), (y_axis,)), ((), ()))
  return jax.lax.dot_general(x, y, axes, preferred_element_type=jnp.float32)


def _seen(static, inputs):
  """Returns which keys each query of this block sees, like Pattern.mask; None if all see all."""
  queries, keys = inputs["query"].shape[1], inputs["key"].shape[1]
  conditions = []
  if static.causal or static.window is not None:
    places = [jax.lax.broadcasted_iota(jnp.int32, (queries, keys), axis) for axis in (1, 0)]
    distance = places[0] - places[1] - pl.program_id(1) * queries
  if static.causal:
    seen = distance <= 0
    if static.prefix:
      seen |= (inputs["query_marks"][0, :, 1:] & inputs["key_marks"][0, 1:]) != 0
    conditions.append(seen)
  if static.window is not None:
    conditions.append(jnp.abs(distance) <= static.window)
  if "query_marks" in inputs:
    conditions.append(inputs["query_marks"][0, :, :1] == inputs["key_marks"][0, :1])
  return functools.reduce(jnp.logical_and, conditions) if conditions else None
