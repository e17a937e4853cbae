"""Fake devices with the attributes that meshes read."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Device:
  """The attributes that meshes read of a device."""

  id: int
  process_index: int
  slice_index: int = 0
  platform: str = "gpu"
  device_kind: str = "NVIDIA H100"


def nodes(count, each=4, per_process=4):
  return [Device(i, i // per_process, i // each) for i in range(count * each)]


def groups(mesh, attribute="slice_index"):
  """The mesh as an array of slices or processes instead of devices, without axes of size 1."""
  flat = [getattr(device, attribute) for device in mesh.devices.flat]
  return np.reshape(flat, [size for size in mesh.devices.shape if size > 1])
