"""How the active mesh and rules split arrays, for code that the compiler cannot split by itself.

The mesh is that of jax.set_mesh; the rules are Linen's logical axis rules, or DEFAULT_RULES.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import AxisType, PartitionSpec

from t5x_style import hardware
from t5x_style.partitioning.sharding import DEFAULT_RULES, as_tuple, without_unit_axes

Names = Sequence[str | None]


def current_platform() -> str:
  """Returns "cpu", "gpu" or "tpu": of the active mesh, else of this machine."""
  mesh = jax.sharding.get_abstract_mesh()
  device = None if mesh.empty else mesh.abstract_device
  return device.platform if device else jax.default_backend()


def current_capability() -> tuple[int, ...] | None:
  """Returns the compute capability of the active mesh's GPUs, else of this machine's.

  None for other devices, and for absent GPUs that are not in the table of hardware.
  """
  mesh, present = jax.sharding.get_abstract_mesh(), jax.devices()[0]
  device = None if mesh.empty else mesh.abstract_device
  if device is None or device.device_kind == present.device_kind:
    return hardware.compute_capability(present)
  chip = hardware.find_accelerator(device.device_kind)
  return chip.capability if isinstance(chip, hardware.GpuChip) else None


def partition_spec(names: Names) -> PartitionSpec | None:
  """Returns the sharding of an array with these logical axes, or None where arrays are not split.

  They are not split without a mesh, on one device, and inside a shard_map.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or any(kind != AxisType.Auto for kind in mesh.axis_types):
    return None
  rules = without_unit_axes(nn.get_logical_axis_rules() or DEFAULT_RULES, mesh.shape)
  return nn.logical_to_mesh_axes(names, rules)


def mesh_axes(names: Names) -> tuple[tuple[str, ...], ...] | None:
  """Returns the mesh axes that split each dimension, or None as partition_spec does."""
  spec = partition_spec(names)
  if spec is None:
    return None
  missing = (None,) * (len(names) - len(spec))
  return tuple(as_tuple(axes) for axes in (*spec, *missing))


def num_shards(names: Names) -> tuple[int, ...]:
  """Returns into how many parts each dimension of an array with these logical axes is split."""
  sizes = jax.sharding.get_abstract_mesh().shape
  split = mesh_axes(names) or ((),) * len(names)
  return tuple(math.prod(sizes[axis] for axis in axes) for axes in split)


def on_each_device(
  function: Callable[..., Any], in_names: Sequence[Any], out_names: Names
) -> Callable[..., Any]:
  """Returns `function` mapped over devices: each calls it on its own part of the arguments.

  For kernels that the compiler cannot split. Where arrays are not split, returns `function` itself.

  Args:
    in_names: for each argument a tuple of logical axes, or None if the argument is None, or a dict
      of these for a dict of arrays, or anything else that jax.shard_map takes.
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
