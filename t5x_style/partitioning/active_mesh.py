"""What the mesh and the rules in force say, for code that has to know where its arrays lie."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import AxisType, PartitionSpec

from t5x_style.partitioning.sharding import DEFAULT_RULES

Names = Sequence[str | None]


def current_platform() -> str:
  """ "cpu", "gpu" or "tpu": of the mesh in force, which may be another than this machine's."""
  mesh = jax.sharding.get_abstract_mesh()
  device = None if mesh.empty else mesh.abstract_device
  return device.platform if device else jax.default_backend()


def partition_spec(names: Names) -> PartitionSpec | None:
  """Mesh axes of an array with these logical axes; None where arrays are whole as they are.

  That is without a mesh (jax.set_mesh), on one device, and inside a shard_map.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or any(kind != AxisType.Auto for kind in mesh.axis_types):
    return None
  rules = []
  for name, axes in nn.get_logical_axis_rules() or DEFAULT_RULES:
    axes = (axes,) if isinstance(axes, str) else tuple(axes or ())
    rules.append((name, tuple(axis for axis in axes if mesh.shape.get(axis, 1) > 1) or None))
  return nn.logical_to_mesh_axes(names, [*rules, *((name, None) for name in names if name)])


def num_shards(names: Names) -> tuple[int, ...]:
  """Into how many parts each dimension of an array with these logical axes is split."""
  spec = partition_spec(names)
  if spec is None:
    return (1,) * len(names)
  sizes = jax.sharding.get_abstract_mesh().shape
  parts = []
  for axes in (*spec, *(None,) * (len(names) - len(spec))):
    count = 1
    for axis in (axes,) if isinstance(axes, str) else axes or ():
      count *= sizes[axis]
    parts.append(count)
  return tuple(parts)


def on_each_device(
  function: Callable[..., Any], in_names: Sequence[Any], out_names: Names
) -> Callable[..., Any]:
  """The function on every device's own part of its arguments, which it gets as plain arrays.

  For kernels that the compiler cannot split by itself. Nothing changes where arrays are whole.

  Args:
    in_names: a tuple of logical axes for each argument, None for one that is None; a dict of such
      for a dict of arrays; or anything else that jax.shard_map takes.
    out_names: logical axes of the result.
  """
  out_spec = partition_spec(out_names)
  if out_spec is None:
    return function

  def spec(names):
    if isinstance(names, dict):
      return {key: spec(value) for key, value in names.items()}
    return partition_spec(names) if isinstance(names, tuple) else names

  in_specs = tuple(spec(x) for x in in_names)
  return jax.shard_map(function, in_specs=in_specs, out_specs=out_spec, check_vma=False)
