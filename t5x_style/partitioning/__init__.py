"""Meshes and shardings: which device holds which part of which array."""

from t5x_style.partitioning.default_mesh import default_mesh_shape
from t5x_style.partitioning.mesh import MESH_AXES, describe_mesh, make_mesh
from t5x_style.partitioning.sharding import Partitioner, device_bytes, total_bytes

__all__ = [
  "MESH_AXES",
  "Partitioner",
  "default_mesh_shape",
  "describe_mesh",
  "device_bytes",
  "make_mesh",
  "total_bytes",
]
