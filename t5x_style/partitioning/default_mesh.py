"""The mesh of a run that asks for none: all for the batch, unless a model is too large for that."""

import math
from collections.abc import Sequence

import jax

from t5x_style.partitioning.mesh import slow_groups

_GIB = 2**30

# Memory of one device as JAX counts devices, in bytes, from the vendors' data sheets. Others say
# themselves what they have; CPUs do not.
DEVICE_MEMORY = {
  "TPU v4": 32 * _GIB,
  "TPU v5 lite": 16 * _GIB,
  "TPU v5e": 16 * _GIB,
  "TPU v5": 95 * _GIB,
  "TPU v5p": 95 * _GIB,
  "TPU v6 lite": 32 * _GIB,
  "TPU v6e": 32 * _GIB,
}

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
  state = f"{state_bytes / _GIB:,.1f} GiB of training state"
  if memory is None or state_bytes <= _SHARE * memory:
    return {"data": -1}, f"{state} fit a device"
  near = len(devices) // len(slow_groups(devices)[1])
  fitting = [
    parts
    for parts in range(1, near + 1)
    if near % parts == 0 and state_bytes <= parts * _SHARE * memory
  ]
  parts = min(fitting, default=near)
  limit = f"{math.floor(_SHARE * memory / _GIB)} GiB, half of a device"
  return {"data": -1, "fsdp": parts}, f"{state} are more than {limit}"


def device_memory(device: jax.Device) -> int | None:
  """Bytes of a device's memory, None where that is not known (CPUs)."""
  names = [name for name in DEVICE_MEMORY if device.device_kind.startswith(name)]
  if names:
    return DEVICE_MEMORY[max(names, key=len)]
  if device.platform != "gpu":
    return None
  # Of another process' device nothing can be asked; those of a job are of one kind.
  stats = jax.local_devices()[0].memory_stats() or {}
  limit = stats.get("bytes_limit")
  return limit and round(limit / _GIB) * _GIB
