"""What experts make of the tokens that were routed to them, on each device of a mesh.

Each device has its own tokens; the experts may be split over devices (the axis "experts" of the
partitioning rules). With a capacity every device sends each expert the same number of rows, by an
all-to-all (GShard, Lepikhin et al. 2020, section 3.3). Without one nobody knows how many rows there
will be: the devices that share the experts gather each other's tokens, compute those of their own
experts, and add up the results.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError
from t5x_style.models import expert_dispatch, expert_dropout, ops
from t5x_style.models.config import TransformerConfig
from t5x_style.models.experts import Experts
from t5x_style.models.grouped_products import grouped_product, groups
from t5x_style.models.layers import gate_names
from t5x_style.partitioning import active_mesh

INTO = ("experts", "embed", "mlp")  # the logical axes of an expert's kernels
OUT = ("experts", "mlp", "embed")

_TOKENS = ("batch", "length", None)

Kernels = Mapping[str, jax.Array]  # {"wi_0": [E, D, F], ..., "wo": [E, F, D]}


class Routed(NamedTuple):
  """Tokens, and the experts that the router chose for each."""

  x: jax.Array  # [B, L, D]
  weights: jax.Array  # float32 [B, L, K]
  chosen: jax.Array  # int32 [B, L, K]; E or more: no expert
  # Of dropout inside experts, None without it: see expert_dropout.drop.
  numbers: jax.Array | None = None  # uint32 [B, L, K], of the choices
  key: jax.Array | None = None  # uint32 [2]


class _Axes(NamedTuple):
  """The mesh axes over which the experts, and the width of each, are split."""

  experts: tuple[str, ...] = ()
  mlp: tuple[str, ...] = ()


def capacity(settings: Experts, tokens: int) -> int:
  """Returns how many choices an expert takes of a group of this many tokens, at least one.

  Each token chooses an expert once at most, so that more than all tokens are never needed.
  """
  assert settings.capacity_factor is not None
  fair = settings.capacity_factor * settings.experts_per_token * tokens / settings.num_experts
  return min(max(math.ceil(fair), 1), tokens)


def check_groups(settings: Experts, rows: int) -> None:
  """Raises UserError if the mesh leaves no whole groups on a device.

  Args:
    rows: of a microbatch.
  """
  shards, parts = active_mesh.num_shards(("batch", "length"))
  if parts > 1:
    raise UserError(
      f"Experts.capacity_factor = {settings.capacity_factor} counts the tokens of whole rows, and "
      f"MESH_SHAPE cuts rows into {parts} parts; set capacity_factor = None (nothing is dropped), "
      "or sequence = 1."
    )
  if rows % (shards * settings.rows_per_group):
    raise UserError(
      f"Experts.rows_per_group = {settings.rows_per_group} does not divide the {rows / shards:g} "
      "rows that a device has of a microbatch; set it to a divisor, or change BATCH_SIZE, "
      "NUM_MICROBATCHES or MESH_SHAPE."
    )


def within_capacity(
  config: TransformerConfig, scanned: bool, routed: Routed, kernels: Kernels
) -> tuple[jax.Array, jax.Array]:
  """Returns (outputs [B, L, D], which choices were computed, bool [B, L, K]).

  Raises:
    UserError: the mesh leaves no whole groups on a device.
  """
  assert config.experts is not None
  check_groups(config.experts, routed.x.shape[0])
  return _on_each_device(functools.partial(_within_capacity, config, scanned), routed, kernels)


def without_limit(
  config: TransformerConfig, scanned: bool, routed: Routed, kernels: Kernels
) -> tuple[jax.Array, None]:
  """Returns (outputs [B, L, D], None): every choice is computed."""
  compute = functools.partial(_without_limit, config, scanned)
  rows, length, _ = routed.x.shape
  parts = active_mesh.num_shards(("batch", "length"))
  if rows % parts[0] or length % parts[1]:  # As when one text is decoded: the compiler splits it.
    return compute(_Axes(), routed, kernels), None
  return _on_each_device(compute, routed, kernels), None


def _on_each_device(compute: Callable[..., Any], routed: Routed, kernels: Kernels) -> Any:
  """Calls compute(axes, routed, kernels) on each device, with its tokens and its experts."""
  axes = _Axes(*(active_mesh.mesh_axes(("experts", "mlp")) or ((), ())))
  # A device needs the whole kernels of its experts: where fsdp splits "embed", they are gathered.
  whole = {name: tuple(x if x != "embed" else None for x in INTO) for name in kernels}
  whole["wo"] = tuple(x if x != "embed" else None for x in OUT)
  arrays = {name: x for name, x in routed._asdict().items() if x is not None}
  mapped = active_mesh.on_each_device(
    lambda arrays, kernels: compute(axes, Routed(**arrays), kernels),
    (dict.fromkeys(arrays, _TOKENS) | ({"key": (None,)} if "key" in arrays else {}), whole),
    _TOKENS,
  )
  return mapped(arrays, kernels)


def _within_capacity(config, scanned, axes, routed, kernels):
  settings, (rows, length, width) = config.experts, routed.x.shape
  size, per_token = settings.num_experts, settings.experts_per_token
  number, tokens = rows // settings.rows_per_group, settings.rows_per_group * length
  room = capacity(settings, tokens)
  starts = jnp.arange(size) * room

  def plan(experts):
    counts = expert_dispatch.count(experts, size)
    return expert_dispatch.plan(experts, counts, starts, starts + room, size * room)

  grouped = lambda x: x.reshape(number, tokens, -1)
  found = jax.vmap(plan)(grouped(routed.chosen).swapaxes(1, 2).reshape(number, -1))

  def to_experts(x):  # [number, size * room, ...] -> [experts of the device, rows, ...]
    x = x.reshape(number, size, room, *x.shape[2:])
    if axes.experts:
      x = jax.lax.all_to_all(x, axes.experts, 1, 0, tiled=True)
    return x.swapaxes(0, 1).reshape(x.shape[1], -1, *x.shape[3:])

  drop = None
  if routed.numbers is not None:
    numbers = grouped(routed.numbers).swapaxes(1, 2).reshape(number, -1)
    drop = _dropout(config, axes, routed, to_experts(jax.vmap(_at_slots)(numbers, found)))
  x = to_experts(jax.vmap(expert_dispatch.to_slots)(grouped(routed.x), found))
  y = _mlp(config, scanned, jnp.matmul, x, kernels, drop)
  y = y.reshape(len(y), -1, room, width).swapaxes(0, 1)
  if axes.experts:
    y = jax.lax.all_to_all(y, axes.experts, 0, 1, tiled=True)
  y = y.reshape(number, size * room, width)
  y = jax.vmap(expert_dispatch.from_slots)(y, found, grouped(routed.weights))
  if axes.mlp:
    y = jax.lax.psum(y, axes.mlp)
  kept = (found.slots < size * room).reshape(number, per_token, tokens).swapaxes(1, 2)
  return y.reshape(routed.x.shape), kept.reshape(routed.chosen.shape)


def _without_limit(config, scanned, axes, routed, kernels):
  flat = {
    name: x.reshape(-1, x.shape[-1])
    for name, x in routed._asdict().items()
    if x is not None and name != "key"
  }
  compute = functools.partial(_own_experts, config, scanned, axes, kernels)
  if not axes.experts:
    y = compute(0, Routed(**flat, key=routed.key))
  else:
    first = jax.lax.axis_index(axes.experts) * len(kernels["wo"])
    gathered = {name: jax.lax.all_gather(x, axes.experts) for name, x in flat.items()}
    # One device's tokens after the other: all of them might go to the experts that this one has.
    one = lambda arrays: compute(first, Routed(**arrays, key=routed.key))
    y = jax.lax.psum_scatter(jax.lax.map(one, gathered), axes.experts)
  if axes.mlp:
    y = jax.lax.psum(y, axes.mlp)
  return y.reshape(routed.x.shape)


def _own_experts(config, scanned, axes, kernels, first, flat):
  """Returns what the experts from number `first` make of tokens [tokens, D]."""
  size = len(kernels["wo"])
  experts = flat.chosen.T.reshape(-1) - first
  experts = jnp.where((experts >= 0) & (experts < size), experts, size)
  counts = expert_dispatch.count(experts, size)
  where = groups(counts, len(experts))
  found = expert_dispatch.plan(experts, counts, where.starts, where.ends, where.num_rows)
  product = functools.partial(grouped_product, where=where)
  drop = None
  if flat.numbers is not None:
    drop = _dropout(config, axes, flat, _at_slots(flat.numbers.T.reshape(-1), found))
  y = _mlp(config, scanned, product, expert_dispatch.to_slots(flat.x, found), kernels, drop)
  return expert_dispatch.from_slots(y, found, flat.weights)


def _at_slots(numbers, found):
  """Returns the numbers [choices] of the choices in all slots; any where there is none."""
  return numbers[jnp.minimum(found.choices, len(numbers) - 1)]


def _dropout(config, axes, routed, numbers):
  """Returns the dropout of hidden units [..., F] of the rows with numbers [...]."""

  def drop(x):
    first = jax.lax.axis_index(axes.mlp) * x.shape[-1] if axes.mlp else 0
    return expert_dropout.drop(x, config.experts.dropout_rate, routed.key, numbers, first)

  return drop


def _mlp(config, scanned, product, x, kernels, drop):
  """Returns the feed-forward network of each row, with the kernels of its expert."""
  gates = [product(x, kernels[name]) for name in gate_names(config)]
  y = ops.activate(config.mlp_activations, gates, [None] * len(gates), scanned)
  return product(y if drop is None else drop(y), kernels["wo"])
