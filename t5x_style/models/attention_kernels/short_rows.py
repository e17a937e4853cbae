"""Attention of short rows for TPUs: a Pallas kernel whose logits never leave the chip.

All keys of a row of some hundred tokens fit on the chip: the softmax needs no second pass over
them, and the backward pass makes its weights anew from queries and keys, so that nothing but these
and the bias is kept for it. T5's bias is added there; splash attention has none, and XLA writes the
logits [B, N, L, S] to memory several times over.

A step of the grid is a few heads, a block of queries and a row of the batch. Rows come last, so
that a block of the bias [heads, queries, S] is read once for all of them and its gradient is summed
where it lies. Heads narrower than the 128 lanes of a TPU go through together, as the projections
left them side by side: nothing is turned around.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

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

_LANES = 128  # the width of a TPU's vector unit
_ROWS = 16  # What a tile of bfloat16 has: parts of a row are whole tiles.
_MOST_QUERIES, _FEWEST_QUERIES = 512, 96  # at a time
_CHIP_BYTES = 13 * 2**20  # of the 16 MiB that a program may take of a TPU's own memory
_FLAT = ("batch", None, "heads")
_PARAMETERS = pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary"))

# query [B, L, N H], key and value [B, S, N H]; where there are any, bias [N, L, S], query_marks
# [B, L, 2] and key_marks [B, 2, S]. L is a whole number of blocks.
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
  """Nothing: the kernel makes its masks block by block."""
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
  """As `attention.attend`; `interpret` runs it without a TPU, slowly."""
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
  together = _together(N // num_shards(("heads",))[0], H)
  fitting = _fitting(together, H, S, query.dtype)
  assert fitting > 0  # As `supports` has it.
  form = _Form(
    together,
    H,
    _block(L, fitting),
    pattern.causal,
    pattern.prefix is not None,
    pattern.window,
    interpret,
  )
  if rest := -L % form.block:
    for name in arrays.keys() & {"query", "bias", "query_marks"}:
      arrays[name] = jnp.pad(arrays[name], ((0, 0), (0, rest), (0, 0)))
  run = on_each_device(functools.partial(_attend, form), (names,), _FLAT)
  out = checkpoint_name(run(arrays)[:, :L], OUTPUT_NAME)
  return out.reshape(B, L, N, H)


class _Form(NamedTuple):
  """What a program is made for."""

  together: int  # heads a step
  width: int  # H
  block: int  # queries a step
  causal: bool
  prefix: bool
  window: int | None
  interpret: bool


def _marks(pattern: Pattern, rows: int, L: int, S: int) -> _Arrays | None:
  """Segment ids, and 1 on the prefix, int32: of queries [B, L, 2] and of keys [B, 2, S].

  None where neither hides a key.
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
  """How many queries fit on the chip at once, by what the backward pass needs for them."""
  wide, size = -(-together * width // _LANES) * _LANES, jnp.dtype(dtype).itemsize
  # Of two steps, one of which is on its way: keys, values, queries, the output, and gradients.
  for_keys, for_query = 8 * S * wide * size, 8 * wide * size
  # The bias and its gradient of two steps, the sum of the latter, and four times a head's logits.
  for_query += S * (together * (4 * size + 4) + 4 * 4)
  return (_CHIP_BYTES - for_keys) // for_query


def _block(L: int, fitting: int) -> int:
  """How many queries go through at a time: all of a row, or equal parts of it."""
  most = min(_MOST_QUERIES, fitting)
  if L <= most:
    return L
  parts = -(-L // (most // _ROWS * _ROWS))
  return _ROWS * -(-L // (parts * _ROWS))


def _together(heads: int, width: int) -> int:
  """How many heads make up whole lanes; all of them where no fewer can."""
  together = max(1, _LANES // width)
  return heads if heads % together or together * width % _LANES else together


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(form: _Form, inputs: _Arrays) -> jax.Array:
  """[B, L, N H]."""
  grid = _grid(form, inputs)
  query = inputs["query"]
  return pl.pallas_call(
    functools.partial(_forward_kernel, form),
    grid=grid.sizes,
    in_specs=[{name: grid.specs[name] for name in inputs}],
    out_specs=grid.specs["query"],
    out_shape=jax.ShapeDtypeStruct(query.shape, query.dtype),
    compiler_params=_PARAMETERS,
    cost_estimate=_cost(form, inputs, products=2),
    interpret=form.interpret,
  )(inputs)


def _attend_backward(form, inputs, by_out):
  grid = _grid(form, inputs)
  key, blocks = inputs["key"], grid.sizes[1]
  # Each block of queries has a part of the gradients of all keys and values.
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in inputs.items()}
  shapes["key"] = shapes["value"] = jax.ShapeDtypeStruct((blocks, *key.shape), key.dtype)
  specs = grid.specs | {"key": grid.specs["part"], "value": grid.specs["part"]}
  wanted = [name for name in ("query", "key", "value", "bias") if name in inputs]
  sums = grid.bias_shape if "bias" in inputs else (8, _LANES)  # the latter is not used
  gradients = pl.pallas_call(
    functools.partial(_backward_kernel, form),
    grid=grid.sizes,
    in_specs=[{name: grid.specs[name] for name in inputs}, grid.specs["query"]],
    out_specs={name: specs[name] for name in wanted},
    out_shape={name: shapes[name] for name in wanted},
    scratch_shapes=[pltpu.VMEM(sums, jnp.float32)],
    compiler_params=_PARAMETERS,
    cost_estimate=_cost(form, inputs, products=5),
    interpret=form.interpret,
  )(inputs, by_out)
  for name in ("key", "value"):
    parts = gradients[name]
    gradients[name] = (
      parts[0] if blocks == 1 else parts.sum(0, dtype=jnp.float32).astype(parts.dtype)
    )
  return ({name: gradients.get(name) for name in inputs},)


_attend.defvjp(lambda form, inputs: (_attend(form, inputs), inputs), _attend_backward)


class _Grid(NamedTuple):
  sizes: tuple[int, int, int]  # groups of heads, blocks of queries, rows of the batch
  specs: dict[str, pl.BlockSpec]  # how each array is cut along it
  bias_shape: tuple[int, int, int]  # of a block: [heads, queries, S]


def _grid(form, inputs):
  (B, L, size), S = inputs["query"].shape, inputs["key"].shape[1]
  together, block = form.together, form.block
  wide = together * form.width
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


def _cost(form, inputs, products):
  (B, L, size), S = inputs["query"].shape, inputs["key"].shape[1]
  read = sum(x.size * x.dtype.itemsize for x in inputs.values())
  return pl.CostEstimate(
    flops=products * 2 * B * L * S * size,
    transcendentals=B * (size // form.width) * L * S,
    bytes_accessed=read * products // 2,
  )


def _forward_kernel(form, inputs, out):
  seen = _seen(form, inputs)
  for n, head in _heads(form):
    value = inputs["value"][0, :, head]
    weights, total = _weights(inputs, n, head, seen)
    mean = _product(weights.astype(value.dtype), value, 1, 0)
    out[0, :, head] = (mean / total).astype(out.dtype)


def _backward_kernel(form, inputs, by_out, gradients, sums):
  seen = _seen(form, inputs)
  row, rows = pl.program_id(2), pl.num_programs(2)
  if "bias" in inputs:

    @pl.when(row == 0)
    def _():
      sums[...] = jnp.zeros_like(sums)

  for n, head in _heads(form):
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


def _heads(form):
  """The heads of this step: their places in a block of the bias, and among the lanes."""
  for n in range(form.together):
    yield n, slice(n * form.width, (n + 1) * form.width)


def _weights(inputs, n, head, seen):
  """exp(logits - their maximum) and its sum over keys: [queries, S] and [queries, 1] in float32."""
  logits = _product(inputs["query"][0, :, head], inputs["key"][0, :, head], 1, 1)
  if "bias" in inputs:
    logits += inputs["bias"][n].astype(jnp.float32)
  if seen is not None:
    logits = jnp.where(seen, logits, HIDDEN)
  weights = jnp.exp(logits - logits.max(-1, keepdims=True))
  return weights, weights.sum(-1, keepdims=True)


def _product(x, y, x_axis, y_axis):
  axes = (((x_axis,), (y_axis,)), ((), ()))
  return jax.lax.dot_general(x, y, axes, preferred_element_type=jnp.float32)


def _seen(form, inputs):
  """Which keys each query of this block sees, as Pattern.mask has it; None where all are."""
  queries, keys = inputs["query"].shape[1], inputs["key"].shape[1]
  conditions = []
  if form.causal or form.window is not None:
    places = [jax.lax.broadcasted_iota(jnp.int32, (queries, keys), axis) for axis in (1, 0)]
    distance = places[0] - places[1] - pl.program_id(1) * queries
  if form.causal:
    seen = distance <= 0
    if form.prefix:
      seen |= (inputs["query_marks"][0, :, 1:] & inputs["key_marks"][0, 1:]) != 0
    conditions.append(seen)
  if form.window is not None:
    conditions.append(jnp.abs(distance) <= form.window)
  if "query_marks" in inputs:
    conditions.append(inputs["query_marks"][0, :, :1] == inputs["key_marks"][0, :1])
  return functools.reduce(jnp.logical_and, conditions) if conditions else None
