"""Meshes of several slices or processes, and the mesh that is chosen for a run."""

import dataclasses

import numpy as np
import pytest

from t5x_style.partitioning import (
  Partitioner,
  default_mesh_shape,
  describe_mesh,
  make_mesh,
  mesh_sizes,
)

GIB = 2**30


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


def test_minus_one_is_what_is_left():
  assert mesh_sizes({"fsdp": 2, "data": -1, "tensor": 2}, 8) == {
    "data": 2,
    "fsdp": 2,
    "sequence": 1,
    "tensor": 2,
  }
  assert mesh_sizes(None, 8)["data"] == 8
  # An axis that only lies across slices need not be named twice.
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
def test_slices_split_the_axes_asked_for_or_the_first(shape, dcn_shape, expected):
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
    (nodes(2)[:6], {"data": -1}, {"data": 2}, "as many devices as the others; they have 4, 2"),
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
  ("kind", "gib", "expected"),
  [
    ("TPU v5 lite", 8, {"data": -1}),
    ("TPU v5 lite", 9, {"data": -1, "fsdp": 2}),
    ("TPU v5 lite", 17, {"data": -1, "fsdp": 4}),
    ("TPU v5 lite", 1000, {"data": -1, "fsdp": 4}),  # As far as a slice goes.
    ("TPU v4", 17, {"data": -1, "fsdp": 2}),
    ("cpu", 1000, {"data": -1}),
  ],
)
def test_large_models_are_split_over_the_fewest_devices(kind, gib, expected):
  devices = [dataclasses.replace(device, platform="tpu", device_kind=kind) for device in nodes(2)]
  shape, reason = default_mesh_shape(gib * GIB, devices)
  assert shape == expected
  assert f"{gib:,}.0 GiB" in reason and (("half" in reason) == ("fsdp" in expected))


def shares(mesh, monkeypatch, processes):
  """The rows of a batch of 16 that each process reads, in the order of the batch they make."""
  found = {}
  for process in range(processes):
    monkeypatch.setattr("jax.process_index", lambda process=process: process)
    index, count = Partitioner(mesh).data_share()
    found[process] = list(range(16))[index * 16 // count : (index + 1) * 16 // count]
  return found


def test_processes_read_each_row_once_unless_they_hold_the_same(monkeypatch):
  devices = [Device(i, i // 2) for i in range(8)]
  four = [list(range(16))[4 * i : 4 * i + 4] for i in range(4)]
  assert list(shares(make_mesh({"data": 8}, devices), monkeypatch, 4).values()) == four
  # Two processes hold one copy of the model: they read the same rows.
  two = [list(range(8)), list(range(8)), list(range(8, 16)), list(range(8, 16))]
  found = shares(make_mesh({"data": 2, "tensor": 4}, devices), monkeypatch, 4)
  assert list(found.values()) == two
  found = shares(make_mesh({"tensor": 8}, devices), monkeypatch, 4)
  assert list(found.values()) == [list(range(16))] * 4
  # Rows of a process that are not neighbours, as a torus makes them, are still a share of its own.
  mixed = [devices[i] for i in (0, 2, 4, 6, 1, 3, 5, 7)]
  mesh = make_mesh({"data": 8}, [dataclasses.replace(d, platform="cpu") for d in mixed])
  assert groups(mesh, "process_index").tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
  assert sorted(shares(mesh, monkeypatch, 4).values()) == four
