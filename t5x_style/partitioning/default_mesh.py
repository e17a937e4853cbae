"""The mesh of a run that asks for none: all for the batch, unless a model is too large for that."""

import math
from collections.abc import Sequence

import jax

from t5x_style.partitioning.hardware import GIB, device_memory
from t5x_style.partitioning.mesh import slow_groups

# Of a device's memory, for parameters, gradients and optimizer state; the rest is for activations.
_SHARE = 0.5


def default_mesh_shape(
  state_bytes: int, devices: Sequence[jax.Device]
) -> tuple[dict[str, int], str]:
  """The mesh where MESH_SHAPE is None.

  All devices along data, if parameters, gradients and optimizer state fit into half of a device's
  memory (and where a device does not tell how much it has: CPUs). Else these are split along fsdp:
  over the fewest devices of a slice or node among which they fit, or all of them; copies of that
  lie along data. Nothing is laid along tensor and sequence unasked.

  Args:
    state_bytes: of parameters, gradients and optimizer state together.

  Returns:
    MESH_SHAPE, and the reason in a few words.
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
