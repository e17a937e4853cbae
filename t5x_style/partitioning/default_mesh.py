"""The mesh of a run without MESH_SHAPE: data parallel, or fsdp where the model needs it."""

import math
from collections.abc import Sequence

import jax

from t5x_style.hardware import GIB, device_memory
from t5x_style.partitioning.mesh import slow_groups

# Share of a device's memory for parameters, gradients and optimizer state; the rest is for
# activations.
_SHARE = 0.5


def default_mesh_shape(
  state_bytes: int, devices: Sequence[jax.Device]
) -> tuple[dict[str, int], str]:
  """Returns the mesh shape to use where MESH_SHAPE is None, and the reason in a few words.

  All devices are along data if parameters, gradients and optimizer state fit into half of a
  device's memory, or if that memory is not known (CPUs). Otherwise they are split along fsdp over
  the fewest devices of one slice or node that are enough, or over all of these, with copies along
  data. Tensor and sequence parallelism are never chosen here.

  Args:
    state_bytes: bytes of parameters, gradients and optimizer state together.
  """
  memory = device_memory(devices[0])
  state = f"{state_bytes / GIB:,.1f} GiB of training state"
  if memory is None or state_bytes <= _SHARE * memory:
    return {"data": -1}, f"{state} fit a device"
  near = len(devices) // len(slow_groups(devices)[1])
  fitting = [
    parts
    for parts in range(1, near + 1)
    if near % parts == 0 and state_bytes <= parts * _SHARE * memory
  ]
  parts = min(fitting, default=near)
  limit = f"{math.floor(_SHARE * memory / GIB)} GiB, half of a device"
  return {"data": -1, "fsdp": parts}, f"{state} are more than {limit}"
