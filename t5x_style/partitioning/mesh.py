"""The device mesh: how many devices are along each axis, from one short description."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from t5x_style.errors import UserError

# From the slowest network to the fastest: neighbours along the last axis are neighbours in the pod.
MESH_AXES = ("data", "fsdp", "expert", "sequence", "tensor")

_PLURAL = {"slice": "slices", "process": "processes"}

Shape = Mapping[str, int]


def make_mesh(
  shape: Shape | None = None,
  devices: Sequence[jax.Device] | None = None,
  dcn_shape: Shape | None = None,
) -> Mesh:
  """Arranges the devices along the axes data, fsdp, expert, sequence and tensor.

  The slices of a TPU job, or the nodes of a GPU job, are groups that only a slow network connects:
  they split the axes of `dcn_shape`. Within a group, neighbours in the network are neighbours in
  the mesh.

  Args:
    shape: devices along each axis of the whole mesh, e.g. {"data": 2, "tensor": 4}. Axes left out
      are 1; at most one may be -1 and takes what is left. None is {"data": -1}.
    devices: all of JAX's devices if None.
    dcn_shape: groups along each axis, e.g. {"data": 2} for two slices. An axis that `shape` leaves
      out has the size given here. None: several slices split the first axes that divide.

  Raises:
    UserError: the axes are unknown, the sizes do not multiply to the number of devices, or the
      groups do not divide them.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = mesh_sizes(shape, len(devices), dcn_shape)
  across = _across(sizes, dcn_shape, devices)
  return Mesh(
    _lay_out(sizes, across, devices),
    MESH_AXES,
    # Linen's logical axes need a compiler that propagates shardings.
    axis_types=(AxisType.Auto,) * len(MESH_AXES),
  )


def mesh_sizes(shape: Shape | None, count: int, dcn_shape: Shape | None = None) -> dict[str, int]:
  """Returns the devices along every axis of a mesh of `count`, -1 replaced; raises as make_mesh."""
  _check_axes("DCN_MESH_SHAPE", dcn_shape)
  shape = dict(dcn_shape or {}) | dict(shape or {"data": -1})
  _check_axes("MESH_SHAPE", shape, free=1)
  sizes = {axis: shape.get(axis, 1) for axis in MESH_AXES}
  free = [axis for axis, size in sizes.items() if size == -1]
  fixed = math.prod(size for size in sizes.values() if size != -1)
  if free and count % fixed == 0:
    sizes[free[0]] = count // fixed
  needed = math.prod(size for size in sizes.values() if size != -1)
  if needed != count:
    raise UserError(
      f"Mesh {_product(sizes) or 'of one device'} needs {'a multiple of ' if free else ''}{needed} "
      f"device{'s' * (needed > 1)}, {count} "
      f"{'is' if count == 1 else 'are'} present; set MESH_SHAPE, e.g. {{'data': -1}}."
    )
  return sizes


def slow_groups(devices: Sequence[jax.Device]) -> tuple[str, dict[int, list[jax.Device]]]:
  """Returns the groups that only a slow network connects: (kind, {index: devices}).

  The kind is "slice" or "process". JAX counts TPU slices, and GPU nodes, as slices. If there is
  only one, each process of GPUs or CPUs is a group; a TPU slice is connected by its own network.
  """
  by_slice: dict[int, list[jax.Device]] = {}
  by_process: dict[int, list[jax.Device]] = {}
  for device in devices:
    by_slice.setdefault(getattr(device, "slice_index", 0), []).append(device)
    by_process.setdefault(device.process_index, []).append(device)
  if len(by_slice) == 1 and devices[0].platform != "tpu":
    return "process", by_process
  return "slice", by_slice


def describe_mesh(mesh: Mesh) -> str:
  """Returns e.g. "data=2 x tensor=4 on 8 cpu devices in 2 processes"."""
  devices = list(mesh.devices.flat)
  kind, groups = slow_groups(devices)
  axes = _product(dict(mesh.shape))
  return (
    f"{axes + ' on ' if axes else ''}{len(devices)} {devices[0].device_kind} "
    f"device{'s' * (len(devices) > 1)}"
    + (f" in {len(groups)} {_PLURAL[kind]}" if len(groups) > 1 else "")
  )


def _check_axes(macro: str, shape: Shape | None, free: int = 0) -> None:
  if shape is not None and not isinstance(shape, Mapping):
    raise UserError(f"{macro} = {shape!r} must be a dictionary such as {{'data': 2}}.")
  shape = dict(shape or {})
  for axis in shape:
    if axis not in MESH_AXES:
      raise UserError(
        f"{macro} names the axis {axis!r}; the axes of a mesh are {', '.join(MESH_AXES)}."
      )
  sizes = [size for size in shape.values() if not (free and size == -1)]
  whole = all(isinstance(size, int) and size >= 1 for size in sizes)
  if not whole or len(shape) - len(sizes) > free:
    raise UserError(
      f"{macro} = {shape} must give positive sizes"
      f"{', and -1 (what is left) to one axis at most' * bool(free)}."
    )


def _across(sizes: dict[str, int], dcn_shape: Shape | None, devices) -> dict[str, int]:
  """Returns the number of groups along each axis."""
  kind, groups = slow_groups(devices)
  count = len(groups)
  if dcn_shape is None:
    return _default_across(sizes, kind, count)
  across = {axis: dcn_shape.get(axis, 1) for axis in MESH_AXES}
  requested = math.prod(across.values())
  if requested > 1 and count == 1:
    raise UserError(
      f"DCN_MESH_SHAPE = {dict(dcn_shape)} is for several slices or processes, and all "
      f"{len(devices)} devices are in one; set DCN_MESH_SHAPE = None."
    )
  if requested not in (1, count):
    raise UserError(
      f"DCN_MESH_SHAPE = {dict(dcn_shape)} names {requested} {_PLURAL[kind]}, {count} are present; "
      f"set e.g. DCN_MESH_SHAPE = {{'data': {count}}}."
    )
  if requested == 1 and kind == "slice" and count > 1:
    return _default_across(sizes, kind, count)
  for axis, parts in across.items():
    if sizes[axis] % parts:
      raise UserError(
        f"DCN_MESH_SHAPE = {dict(dcn_shape)} splits {axis} = {sizes[axis]} of the mesh "
        f"{_product(sizes)} over {parts} {_PLURAL[kind]}; set MESH_SHAPE so that {axis} is a "
        f"multiple of {parts}."
      )
  return across


def _default_across(sizes: dict[str, int], kind: str, count: int) -> dict[str, int]:
  """Returns the groups along each axis where DCN_MESH_SHAPE does not say: the first that divide."""
  if kind == "process":
    return dict.fromkeys(MESH_AXES, 1)  # JAX's order keeps the devices of a process together.
  left, across = count, {}
  for axis, size in sizes.items():
    across[axis] = math.gcd(size, left)
    left //= across[axis]
  if left > 1:
    raise UserError(
      f"Mesh {_product(sizes)} does not split over {count} {_PLURAL[kind]}; set MESH_SHAPE so that "
      f"data is a multiple of {count}, e.g. {{'data': -1}}."
    )
  return across


def _lay_out(sizes: dict[str, int], across: dict[str, int], devices) -> np.ndarray:
  kind, groups = slow_groups(devices)
  inside = [sizes[axis] // across[axis] for axis in MESH_AXES]
  slow = [across[axis] for axis in MESH_AXES]

  def attempt(split: bool) -> np.ndarray:
    options = {"allow_split_physical_axes": split}
    if math.prod(slow) == 1:
      return mesh_utils.create_device_mesh(inside, devices, **options)
    return mesh_utils.create_hybrid_device_mesh(
      inside, slow, devices, process_is_granule=kind == "process", **options
    )

  if math.prod(slow) > 1 and len({len(group) for group in groups.values()}) > 1:
    counts = ", ".join(str(len(group)) for group in groups.values())
    raise UserError(f"Each {kind} must have the same number of devices; they have {counts}.")
  if devices[0].platform != "tpu":
    return attempt(False)
  try:
    return attempt(False)  # Each axis of the mesh takes whole axes of the torus ...
  except NotImplementedError:
    return attempt(True)  # ... if that is possible.


def _product(sizes: Mapping[str, int]) -> str:
  return " x ".join(f"{axis}={size}" for axis, size in sizes.items() if size != 1)
