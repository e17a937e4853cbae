"""Devices that are not here, as far as meshes look at them."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Device:
  """What meshes ask of a device that is not here."""

  id: int
  process_index: int
  slice_index: int = 0
  platform: str = "gpu"
  device_kind: str = "NVIDIA H100"


def nodes(count, each=4, per_process=4):
  return [Device(i, i // per_process, i // each) for i in range(count * each)]


def groups(mesh, attribute="slice_index"):
  """Slices or processes in the place of devices."""
  flat = [getattr(device, attribute) for device in mesh.devices.flat]
  return np.reshape(flat, [size for size in mesh.devices.shape if size > 1])
