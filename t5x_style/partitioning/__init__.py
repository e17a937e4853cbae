"""Meshes and shardings: which device holds which part of which array."""

from t5x_style.partitioning.default_mesh import default_mesh_shape, device_memory
from t5x_style.partitioning.mesh import MESH_AXES, describe_mesh, make_mesh, mesh_sizes
from t5x_style.partitioning.sharding import DEFAULT_RULES, Partitioner

__all__ = [
  "DEFAULT_RULES",
  "MESH_AXES",
  "Partitioner",
  "default_mesh_shape",
  "describe_mesh",
  "device_memory",
  "make_mesh",
  "mesh_sizes",
]
