"""The device mesh: how many devices along each axis, from one short description."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

# From the slowest network to the fastest: neighbours along the last axis are neighbours in the pod.
MESH_AXES = ("data", "fsdp", "sequence", "tensor")


def make_mesh(
  shape: Mapping[str, int] | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Lays the devices out along the axes data, fsdp, sequence and tensor.

  Args:
    shape: devices along each axis, e.g. {"data": 2, "tensor": 4}. Axes left out are 1; at most one
      may be -1 and takes what is left. None is {"data": -1}.
    devices: all of JAX's devices if None.

  Raises:
    ValueError: the axes are unknown, or the sizes do not multiply to the number of devices.
  """
  shape = dict(shape or {"data": -1})
  devices = jax.devices() if devices is None else list(devices)
  unknown = [axis for axis in shape if axis not in MESH_AXES]
  if unknown:
    raise ValueError(
      f"MESH_SHAPE names the axis {unknown[0]!r}; the axes of a mesh are {', '.join(MESH_AXES)}."
    )
  sizes = {axis: shape.get(axis, 1) for axis in MESH_AXES}
  wrong = {axis: size for axis, size in sizes.items() if size != -1 and size < 1}
  free = [axis for axis, size in sizes.items() if size == -1]
  if wrong or len(free) > 1:
    raise ValueError(
      f"MESH_SHAPE = {shape} must give positive sizes, and -1 (what is left) to one axis at most."
    )
  fixed = math.prod(size for size in sizes.values() if size != -1)
  if free and len(devices) % fixed == 0:
    sizes[free[0]] = len(devices) // fixed
  needed = math.prod(size for size in sizes.values() if size != -1)
  if needed != len(devices):
    product = " x ".join(f"{axis}={size}" for axis, size in sizes.items() if size != 1)
    raise ValueError(
      f"Mesh {product or 'of one device'} needs {'a multiple of ' if free else ''}{needed} "
      f"device{'s' * (needed > 1)}, {len(devices)} "
      f"{'is' if len(devices) == 1 else 'are'} present; set MESH_SHAPE, e.g. {{'data': -1}}."
    )
  dimensions = tuple(sizes[axis] for axis in MESH_AXES)
  if devices == jax.devices():
    # Knows the topology of a TPU slice; Linen's logical axes want the compiler to propagate (Auto).
    return jax.make_mesh(dimensions, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))
  return Mesh(
    np.array(devices).reshape(dimensions),
    MESH_AXES,
    axis_types=(AxisType.Auto,) * len(MESH_AXES),
  )


def describe_mesh(mesh: Mesh) -> str:
  """ "data=2 x tensor=4 on 8 cpu devices"."""
  axes = " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1)
  device = mesh.devices.flat[0]
  count = mesh.devices.size
  return f"{axes + ' on ' if axes else ''}{count} {device.device_kind} device{'s' * (count > 1)}"
