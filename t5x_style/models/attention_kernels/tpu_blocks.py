"""The functions of blockwise.py as Pallas kernels for TPUs: logits never leave the chip.

`forward` and `backward` take and return what those of blockwise.py do. A step of a kernel's grid is
one pair of blocks of one head and one row. Pairs in which nothing is seen cost almost nothing:
their products are left out, and what they would read is not transferred.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from t5x_style.hardware import TPU_LANES
from t5x_style.models.attention_kernels import tpu_block_bias
from t5x_style.models.attention_kernels.blockwise import (
  NOTHING,
  Blocks,
  Gradients,
  Rules,
  any_seen,
)
from t5x_style.soft_cap import soft_cap_slope, soft_capped

_TABLES = ("seen", "read", "near", "first_query", "first_key")
# The axes of a grid: groups of heads k, heads of a group g, rows b, blocks of queries n and keys m.
_BY_QUERY, _BY_KEY = "kgbnm", "kbmgn"


class _Shape(NamedTuple):
  """Sizes: see blockwise.py; `near` is the number of slices of the bias, 0 if there is none."""

  n: int
  B: int
  K: int
  G: int
  q: int
  H: int
  m: int
  k: int
  near: int

  @property
  def width(self) -> int:
    """Numbers of a slice of the bias."""
    return tpu_block_bias.width(self.q)


def fits(queries: Blocks, keys: Blocks, bias: jax.Array | None, part: int) -> bool:
  """Returns whether the kernels can compute these blocks: they fill whole lanes.

  Args:
    part: the starts of blocks differ by multiples of it and of q; with a bias, only of q.
  """
  q, k = queries["query"].shape[-2], keys["key"].shape[-2]
  if bias is not None and (q != k or part % q):
    return False
  return q % TPU_LANES == 0 and k % TPU_LANES == 0


def forward(
  rules: Rules, queries: Blocks, keys: Blocks, bias: jax.Array | None, *, interpret: bool = False
) -> tuple[jax.Array, jax.Array]:
  """Attends to these keys, as blockwise.forward does; `interpret` runs it slowly without a TPU."""
  shape = _shape(queries, keys, bias)
  per_query = (shape.n, shape.B, shape.K, shape.G, shape.q)
  tables = _tables(rules, queries, keys, shape, _BY_QUERY)
  outputs = {"out": (*per_query, shape.H), "lse_of_lanes": (*per_query, TPU_LANES)}
  scratch = [(shape.q, TPU_LANES), (shape.q, TPU_LANES), (shape.q, shape.H)]
  kernel, inputs = functools.partial(_forward_kernel, rules), _inputs(queries, keys, bias)
  out, lse = _call(kernel, shape, _BY_QUERY, "m", tables, inputs, outputs, scratch, interpret)
  return out, lse[..., 0]


def backward(
  rules: Rules, queries: Blocks, keys: Blocks, bias: jax.Array | None, *, interpret: bool = False
) -> Gradients:
  """Returns the gradients through the attention to these keys, as blockwise.backward does."""
  shape, inputs = _shape(queries, keys, bias), _inputs(queries, keys, bias)
  inputs["by_out"] = queries["by_out"]
  inputs |= {name: queries[name][..., None, :] for name in ("lse", "mean")}
  outputs = {"by_query": queries["query"].shape}
  scratch: list[tuple[int, ...]] = [(shape.q, shape.H)]
  if bias is not None:
    outputs["by_near"] = inputs["near"].shape
    scratch.append((shape.near, 1, shape.width))
  given = rules, queries, keys, shape
  kernel, tables = functools.partial(_query_kernel, rules), _tables(*given, _BY_QUERY)
  sums = "m" if bias is None else "bnm"
  by_query, *by_near = _call(
    kernel, shape, _BY_QUERY, sums, tables, inputs, outputs, scratch, interpret
  )
  kernel, tables = functools.partial(_key_kernel, rules), _tables(*given, _BY_KEY)
  outputs = dict.fromkeys(("by_key", "by_value"), keys["key"].shape)
  scratch = [(shape.k, shape.H)] * 2
  by_key, by_value = _call(
    kernel, shape, _BY_KEY, "gn", tables, inputs, outputs, scratch, interpret
  )
  by_bias = None
  if bias is not None:
    (by_bias,) = jax.vjp(functools.partial(_near_slices, shape), bias)[1](by_near[0])
  return Gradients(by_query, by_key, by_value, by_bias)


def _shape(queries, keys, bias):
  n, B, K, G, q, H = queries["query"].shape
  m, k = keys["key"].shape[0], keys["key"].shape[-2]
  near = 0 if bias is None else tpu_block_bias.near_blocks(bias, q)
  return _Shape(n, B, K, G, q, H, m, k, near)


def _near_slices(shape, bias):
  """Returns the slices of the bias of near pairs, [K, G, near, 1, width]."""
  slices = tpu_block_bias.slices(bias, shape.q)
  return slices.reshape(shape.K, shape.G, shape.near, 1, shape.width)


def _inputs(queries, keys, bias):
  """Returns the arrays that all kernels read."""
  inputs = {"query": queries["query"], "key": keys["key"], "value": keys["value"]}
  for name in ("segments", "prefix"):
    if name in queries:
      inputs[f"query_{name}"] = queries[name].astype(jnp.int32)[..., None]
    if name in keys:
      inputs[f"key_{name}"] = keys[name].astype(jnp.int32)[..., None, :]
  if bias is not None:
    inputs["near"] = _near_slices(_shape(queries, keys, bias), bias)
  return inputs


def _tables(rules, queries, keys, shape, order):
  """Returns the scalars of _TABLES: which pairs [n, m] are seen, and what each step reads.

  "read" is the block on the innermost axis that a step reads: its own, or, if the step computes
  nothing, one that is there already.
  """
  only = ("query", "segments", "prefix", "start")
  queries = {name: x for name, x in queries.items() if name in only}
  pairs = jax.vmap(jax.vmap(functools.partial(any_seen, rules), (None, 0)), (0, None))
  seen = jnp.broadcast_to(pairs(queries, keys), (shape.n, shape.m))
  axis = "nm".index(order[-1])
  own = jax.lax.broadcasted_iota(jnp.int32, seen.shape, axis)
  latest = jax.lax.cummax(jnp.where(seen, own, -1), axis)
  read = jnp.where(latest < 0, jnp.argmax(seen, axis, keepdims=True), latest)
  first_query, first_key = (x["start"].astype(jnp.int32) for x in (queries, keys))
  apart = (first_key - first_query[:, None]) // shape.q
  c = shape.near // 2
  near = jnp.clip(apart, -c, c) + c
  return seen.astype(jnp.int32), read.astype(jnp.int32), near, first_query, first_key


def _call(kernel, shape, order, sums, tables, inputs, outputs, scratch, interpret=False):
  """Runs a kernel on a grid of the axes `order`; returns its outputs in float32.

  Args:
    order: names of axes; steps along those in `sums` add to the same outputs.
    outputs: the shape of each output, by a name of _cuts.
    scratch: shapes of float32 arrays on the chip.
  """
  sizes = {"k": shape.K, "g": shape.G, "b": shape.B, "n": shape.n, "m": shape.m}
  spec = functools.partial(_spec, shape, order)
  return pl.pallas_call(
    functools.partial(_with_names, kernel, order, tuple(inputs), shape.near - 1),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=len(_TABLES),
      grid=tuple(sizes[axis] for axis in order),
      in_specs=[spec(name) for name in inputs],
      out_specs=[spec(name) for name in outputs],
      scratch_shapes=[pltpu.VMEM(x, jnp.float32) for x in scratch],
    ),
    out_shape=[jax.ShapeDtypeStruct(x, jnp.float32) for x in outputs.values()],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=tuple("arbitrary" if axis in sums else "parallel" for axis in order)
    ),
    interpret=interpret,
  )(*tables, *inputs.values())


def _cuts(shape):
  """Returns {names of arrays: (the axes of the grid that they have in front, the rest)}."""
  return {
    "query out by_out by_query": ("nbkg", (shape.q, shape.H)),
    "lse mean": ("nbkg", (1, shape.q)),
    "lse_of_lanes": ("nbkg", (shape.q, TPU_LANES)),
    "key value by_key by_value": ("mbk", (shape.k, shape.H)),
    "query_segments query_prefix": ("nb", (shape.q, 1)),
    "key_segments key_prefix": ("mb", (1, shape.k)),
    "near": ("kgd", (1, shape.width)),
    "by_near": ("kg", (shape.near, 1, shape.width)),
  }


def _spec(shape, order, name):
  """Returns how an array is cut along the grid."""
  axes, block = next(cut for names, cut in _cuts(shape).items() if name in names.split())

  def index(*ids):
    place = dict(zip(order, ids, strict=False))
    _, read, near, *_ = ids[len(order) :]
    place["d"] = near[place["n"], place["m"]]
    place[order[-1]] = read[place["n"], place["m"]]
    return (*(place[axis] for axis in axes), *(0 for _ in block))

  return pl.BlockSpec((*(None for _ in axes), *block), index)


class _Pair(NamedTuple):
  """One step of a grid: its arrays by name, and where it is.

  Attributes:
    near: which slice of the bias it has.
    is_far: whether all numbers of this slice are the same.
  """

  arrays: dict[str, Any]
  seen: Any
  near: Any
  is_far: Any
  first_query: Any
  first_key: Any


def _with_names(kernel, order, names, last_near, *refs):
  """Calls kernel(pair, at, *outputs, *scratch) for one step of the grid.

  at(axes, False) says whether it is the first step along these axes; with True, the last.
  """
  ids = {axis: pl.program_id(i) for i, axis in enumerate(order)}
  sizes = {axis: pl.num_programs(i) for i, axis in enumerate(order)}
  seen, _, near, first_query, first_key = refs[: len(_TABLES)]
  n, m, rest = ids["n"], ids["m"], refs[len(_TABLES) :]
  arrays, own = dict(zip(names, rest, strict=False)), near[n, m]
  is_far = (own == 0) | (own == last_near)
  pair = _Pair(arrays, seen[n, m], own, is_far, first_query[n], first_key[m])

  def at(axes, is_last):
    ends = [ids[x] == (sizes[x] - 1 if is_last else 0) for x in axes]
    return functools.reduce(jnp.logical_and, ends)

  kernel(pair, at, *rest[len(names) :])


def _forward_kernel(rules, pair, at, out, lse, highest, total, mean):
  @pl.when(at("m", False))
  def start():
    highest[...] = jnp.full_like(highest, NOTHING)
    total[...] = jnp.zeros_like(total)
    mean[...] = jnp.zeros_like(mean)

  @pl.when(pair.seen != 0)
  def add():
    logits, _ = _logits(rules, pair)
    before = highest[:, :1]
    now = jnp.maximum(before, logits.max(-1, keepdims=True))
    weights, shrinks = _weights(logits, now), jnp.exp(before - now)
    value = pair.arrays["value"][...]
    highest[...] = jnp.broadcast_to(now, highest.shape)
    total[...] = total[...] * shrinks + weights.sum(-1, keepdims=True)
    mean[...] = mean[...] * shrinks + _product(weights.astype(value.dtype), value, 1, 0)

  @pl.when(at("m", True))
  def end():
    some = total[:, :1] > 0
    sums = jnp.where(some, total[:, :1], 1.0)
    out[...] = mean[...] / sums
    lse[...] = jnp.broadcast_to(jnp.where(some, highest[:, :1] + jnp.log(sums), NOTHING), lse.shape)


def _query_kernel(rules, pair, at, by_query, *rest):
  by_near: Any
  near_sums: Any
  by_near, sums, near_sums = rest if len(rest) == 3 else (None, rest[0], None)

  @pl.when(at("m", False))
  def start():
    sums[...] = jnp.zeros_like(sums)

  if near_sums is not None:

    @pl.when(at("bnm", False))
    def start_near():
      near_sums[...] = jnp.zeros_like(near_sums)

  @pl.when(pair.seen != 0)
  def add():
    _, by_biased, by_logits = _pair_gradients(rules, pair)
    key = pair.arrays["key"][...]
    sums[...] += _product(by_logits.astype(key.dtype), key, 1, 0)
    if near_sums is not None:

      @pl.when(pair.is_far)
      def add_far():
        near_sums[pair.near, :, : by_biased.shape[1]] += by_biased.sum(0, keepdims=True)

      @pl.when(jnp.logical_not(pair.is_far))
      def add_near():
        near_sums[pair.near] += tpu_block_bias.sums_by_distance(by_biased)

  @pl.when(at("m", True))
  def end():
    by_query[...] = sums[...]

  if near_sums is not None:

    @pl.when(at("bnm", True))
    def end_near():
      by_near[...] = near_sums[...]


def _key_kernel(rules, pair, at, by_key, by_value, key_sums, value_sums):
  @pl.when(at("gn", False))
  def start():
    key_sums[...] = jnp.zeros_like(key_sums)
    value_sums[...] = jnp.zeros_like(value_sums)

  @pl.when(pair.seen != 0)
  def add():
    weights, _, by_logits = _pair_gradients(rules, pair)
    query, by_out = pair.arrays["query"][...], pair.arrays["by_out"][...]
    key_sums[...] += _product(by_logits.astype(query.dtype), query, 0, 0)
    value_sums[...] += _product(weights.astype(by_out.dtype), by_out, 0, 0)

  @pl.when(at("gn", True))
  def end():
    by_key[...] = key_sums[...]
    by_value[...] = value_sums[...]


def _pair_gradients(rules, pair):
  """Returns the weights [q, k], and the gradients of biased and of uncapped logits."""
  logits, raw = _logits(rules, pair)
  lse, mean = (pair.arrays[name][0][:, None] for name in ("lse", "mean"))
  weights = _weights(logits, lse)
  by_weights = _product(pair.arrays["by_out"][...], pair.arrays["value"][...], 1, 1)
  by_biased = weights * (by_weights - mean)
  slope = 1.0 if raw is None else soft_cap_slope(raw, rules.soft_cap)
  return weights, by_biased, by_biased * slope


def _logits(rules, pair):
  """Returns float32 logits [q, k], NOTHING where hidden, and the uncapped ones or None."""
  logits, raw = _product(pair.arrays["query"][...], pair.arrays["key"][...], 1, 1), None
  if rules.soft_cap is not None:
    raw, logits = logits, soft_capped(logits, rules.soft_cap)
  if "near" in pair.arrays:
    logits += tpu_block_bias.spread(pair.arrays["near"][...], pair.is_far, logits.shape[0])
  seen = _seen(rules, pair, logits.shape)
  return (logits if seen is None else jnp.where(seen, logits, NOTHING)), raw


def _weights(logits, lse):
  return jnp.where(logits > NOTHING, jnp.exp(logits - lse), 0.0)


def _seen(rules, pair, shape):
  """Returns which keys each query sees, [q, k], as Pattern.mask; None if all are seen."""
  arrays, conditions = pair.arrays, []
  if rules.causal or rules.window is not None:
    places = [jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (1, 0)]
    distance = places[0] - places[1] + (pair.first_key - pair.first_query)
  if rules.causal:
    seen = distance <= 0
    if "query_prefix" in arrays:
      seen |= (arrays["query_prefix"][...] & arrays["key_prefix"][...]) != 0
    conditions.append(seen)
  if rules.window is not None:
    conditions.append(jnp.abs(distance) <= rules.window)
  if "key_segments" in arrays:
    ids = arrays["key_segments"][...]
    conditions.append(jnp.broadcast_to(ids != 0, shape))
    if "query_segments" in arrays:
      conditions.append(ids == arrays["query_segments"][...])
  return functools.reduce(jnp.logical_and, conditions) if conditions else None


def _product(x, y, x_axis, y_axis):
  """Returns the product of two matrices, contracting one axis of each, in float32."""
  axes = (((x_axis,), (y_axis,)), ((), ()))
  return jax.lax.dot_general(x, y, axes, preferred_element_type=jnp.float32)
