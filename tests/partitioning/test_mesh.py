"""Meshes of several slices or processes, and shapes that are refused."""

import jax
import numpy as np
import pytest

from t5x_style.partitioning import describe_mesh, make_mesh
from t5x_style.partitioning.mesh import mesh_sizes
from tests.partitioning.fake_devices import Device, groups, nodes


def test_minus_one_is_what_is_left():
  assert mesh_sizes({"fsdp": 2, "data": -1, "tensor": 2}, 8) == {
    "data": 2,
    "fsdp": 2,
    "expert": 1,
    "sequence": 1,
    "tensor": 2,
  }
  assert mesh_sizes(None, 8)["data"] == 8
  # An axis that is only split over slices need not be named twice.
  assert mesh_sizes({"fsdp": -1}, 8, {"data": 2})["fsdp"] == 4


@pytest.mark.parametrize(
  ("shape", "dcn_shape", "expected"),
  [
    ({"data": 2, "fsdp": 4}, {"data": 2}, [[0] * 4, [1] * 4]),
    ({"fsdp": -1}, {"data": 2}, [[0] * 4, [1] * 4]),
    ({"data": 4, "tensor": 2}, {"data": 2}, [[0, 0], [0, 0], [1, 1], [1, 1]]),
    ({"data": 4, "tensor": 2}, {"tensor": 2}, [[0, 1]] * 4),
    ({"fsdp": 8}, None, [0] * 4 + [1] * 4),
    ({"data": 2, "tensor": 4}, None, [[0] * 4, [1] * 4]),
    ({"data": -1}, {"data": 1}, [0] * 4 + [1] * 4),
  ],
)
def test_slices_split_the_requested_axes_or_the_first(shape, dcn_shape, expected):
  mesh = make_mesh(shape, nodes(2), dcn_shape)
  np.testing.assert_array_equal(groups(mesh), expected)
  assert "on 8 NVIDIA H100 devices in 2 slices" in describe_mesh(mesh)


def test_processes_take_the_place_of_slices_where_there_is_one():
  devices = [Device(i, i // 2, platform="cpu") for i in range(8)]
  plain = make_mesh({"data": 2, "tensor": 4}, devices)
  np.testing.assert_array_equal(groups(plain, "process_index"), [[0, 0, 1, 1], [2, 2, 3, 3]])
  mesh = make_mesh({"data": 4, "tensor": 2}, devices, {"data": 2, "tensor": 2})
  np.testing.assert_array_equal(groups(mesh, "process_index"), [[0, 1], [0, 1], [2, 3], [2, 3]])


@pytest.mark.parametrize(
  ("devices", "shape", "dcn_shape", "message"),
  [
    (nodes(2), {"tensor": 8}, {"data": 2}, "Mesh data=2 x tensor=8 needs 16 devices, 8 are pres"),
    (nodes(2), {"data": -1}, {"data": 4}, "names 4 slices, 2 are present; set e.g. .*'data': 2"),
    (nodes(2), {"data": 1, "fsdp": -1}, {"data": 2}, "splits data = 1 of the mesh fsdp=8 over 2"),
    (nodes(1), {"data": -1}, {"data": 2}, "all 4 devices are in one; set DCN_MESH_SHAPE = None"),
    (nodes(3, 2), {"data": 2, "fsdp": 3}, {"data": 3}, "data is a multiple of 3"),
    (nodes(2), {"data": -1}, {"model": 2}, "DCN_MESH_SHAPE names the axis 'model'"),
    (nodes(2), {"data": -1}, {"data": -1}, "DCN_MESH_SHAPE = .* must give positive sizes"),
    (nodes(2), {"data": -1}, 2, "DCN_MESH_SHAPE = 2 must be a dictionary"),
    (nodes(2)[:6], {"data": -1}, {"data": 2}, "the same number of devices; they have 4, 2"),
    (nodes(3, 2), {"data": "6"}, None, "must give positive sizes"),
  ],
)
def test_impossible_slices_are_refused(devices, shape, dcn_shape, message):
  with pytest.raises(ValueError, match=message):
    make_mesh(shape, devices, dcn_shape)


def test_a_torus_is_one_slice_however_many_processes_it_has():
  devices = [Device(i, i // 4, platform="tpu", device_kind="TPU v4") for i in range(8)]
  with pytest.raises(ValueError, match="all 8 devices are in one"):
    make_mesh({"data": -1}, devices, {"data": 2})


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ({"data": -1, "tensor": -1}, "-1 .* to one axis at most"),
    ({"data": 0}, "must give positive sizes"),
    ({"tensor": 2, "data": -1}, "needs a multiple of 2 devices, 1 is present"),
  ],
)
def test_impossible_meshes_are_refused(shape, message):
  with pytest.raises(ValueError, match=message):
    make_mesh(shape, jax.devices()[:1])
