"""The mesh that is chosen for a run."""

import dataclasses

import pytest

from t5x_style.partitioning import default_mesh_shape
from tests.partitioning.fake_devices import nodes

GIB = 2**30


@pytest.mark.parametrize(
  ("kind", "gib", "expected"),
  [
    ("TPU v5 lite", 8, {"data": -1}),
    ("TPU v5 lite", 9, {"data": -1, "fsdp": 2}),
    ("TPU v5 lite", 17, {"data": -1, "fsdp": 4}),
    ("TPU v5 lite", 1000, {"data": -1, "fsdp": 4}),  # The whole slice.
    ("TPU v4", 17, {"data": -1, "fsdp": 2}),
    ("cpu", 1000, {"data": -1}),
  ],
)
def test_large_models_are_split_over_the_fewest_devices(kind, gib, expected):
  devices = [dataclasses.replace(device, platform="tpu", device_kind=kind) for device in nodes(2)]
  shape, reason = default_mesh_shape(gib * GIB, devices)
  assert shape == expected
  assert f"{gib:,}.0 GiB" in reason and (("half" in reason) == ("fsdp" in expected))
