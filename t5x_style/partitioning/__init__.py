"""Meshes and shardings: which device holds which part of which array."""

from t5x_style.partitioning.mesh import MESH_AXES, describe_mesh, make_mesh
from t5x_style.partitioning.sharding import DEFAULT_RULES, Partitioner

__all__ = ["DEFAULT_RULES", "MESH_AXES", "Partitioner", "describe_mesh", "make_mesh"]
