"""Shardings: which rule takes which axis; mistakes are refused."""

import dataclasses

import jax
import numpy as np
import pytest

from t5x_style.partitioning import Partitioner, device_bytes, make_mesh, total_bytes
from tests.partitioning.fake_devices import Device, groups


def fake_mesh(**shape):
  """Returns a partitioner of a mesh that only has a shape, for tests that make no array."""
  from jax.sharding import AbstractMesh, AxisType

  sizes = {axis: shape.get(axis, 1) for axis in ("data", "fsdp", "sequence", "tensor")}
  return Partitioner(
    AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * 4)
  )


def test_batch_goes_over_data_and_fsdp_and_parameters_over_fsdp():
  partitioner = fake_mesh(data=2, fsdp=4)
  assert tuple(partitioner.batch().spec) == (("data", "fsdp"), None)
  assert tuple(partitioner.sharding(("embed", "mlp"), (64, 128)).spec) == ("fsdp", None)
  # An activation keeps its batch split: embed must not take fsdp from it.
  assert tuple(partitioner.sharding(("batch", "length", "embed")).spec)[2] is None


def test_size_that_does_not_divide_is_refused():
  with pytest.raises(ValueError, match="axis 'heads' of a .* does not divide by the 4 devices"):
    fake_mesh(tensor=4).sharding(("embed", "heads", "kv"), (64, 6, 16))


def test_few_key_heads_are_copied():
  spec = fake_mesh(tensor=4).sharding(("embed", "kv_heads", "kv"), (64, 2, 16)).spec
  assert tuple(spec)[1] is None


def test_batch_that_does_not_divide_is_refused_with_the_next_size():
  with pytest.raises(ValueError, match=r"BATCH_SIZE = 12 .* 8 data-parallel .*BATCH_SIZE = 16"):
    fake_mesh(data=8).check_batch(12, 1)
  with pytest.raises(ValueError, match="encoder_input_tokens has 114 tokens"):
    odd = jax.ShapeDtypeStruct((8, 114), np.int32)
    fake_mesh(sequence=4).check_lengths({"encoder_input_tokens": odd})


@pytest.mark.parametrize(
  ("rules", "message"),
  [
    ((("batch", "model"),), "names the mesh axis 'model'; the mesh has data, fsdp,"),
    ((("batch", ("data", "x")),), "names the mesh axis 'x'"),
    ((("hidden", "tensor"),), "names the axis 'hidden'; the axes of models are batch, length,"),
    (("vocab",), "holds 'vocab'; a rule is a pair such as"),
  ],
)
def test_impossible_rules_are_refused(rules, message):
  with pytest.raises(ValueError, match=message):
    Partitioner(make_mesh(), rules=rules)


def test_rules_come_before_the_default_ones():
  mesh = fake_mesh(fsdp=2, tensor=2).mesh
  table = ("vocab", "embed"), (64, 32)
  assert tuple(Partitioner(mesh).sharding(*table).spec) == ("tensor", "fsdp")
  whole = Partitioner(mesh, (("vocab", None),))
  assert tuple(whole.sharding(*table).spec) == (None, "fsdp")
  both = Partitioner(mesh, [["vocab", ["fsdp", "tensor"]]])  # Lists, as gin may give them.
  assert tuple(both.sharding(*table).spec) == (("fsdp", "tensor"), None)


def test_optimizer_state_is_split_as_its_parameter():
  partitioner = fake_mesh(fsdp=4, tensor=2)
  shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, "float32")
  params = {"mlp": {"kernel": shape(64, 128)}, "norm": shape(64)}
  shardings = {
    "mlp": {"kernel": partitioner.sharding(("embed", "mlp"), (64, 128))},
    "norm": partitioner.sharding(("embed",), (64,)),
  }
  # Adam's moments have the parameter's shape, Adafactor's lack one of its dimensions.
  state = (
    {"mu": params, "count": shape()},
    {"rows": {"mlp": {"kernel": shape(64)}, "norm": shape(1)}},
    {"columns": {"mlp": {"kernel": shape(128)}, "norm": shape(1)}},
  )
  specs = jax.tree.map(lambda x: tuple(x.spec), partitioner.like_params(state, params, shardings))
  assert specs[0] == {"mu": {"mlp": {"kernel": ("fsdp", "tensor")}, "norm": ("fsdp",)}, "count": ()}
  assert specs[1]["rows"] == {"mlp": {"kernel": ("fsdp",)}, "norm": ()}
  assert specs[2]["columns"] == {"mlp": {"kernel": ("tensor",)}, "norm": ()}


def test_one_process_reads_the_whole_batch():
  assert Partitioner(make_mesh()).data_share() == (0, 1)


def shares(mesh, monkeypatch, processes):
  """Returns {process: the rows of a batch of 16 that it reads}."""
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


def test_bytes_on_a_device():
  """A kernel of 64 x 128 in two by four parts, a norm's 64 numbers in four, in bfloat16."""
  partitioner = fake_mesh(fsdp=4, tensor=2)
  arrays = [jax.ShapeDtypeStruct((64, 128), "bfloat16"), jax.ShapeDtypeStruct((64,), "bfloat16")]
  shardings = [partitioner.sharding(("embed", "mlp")), partitioner.sharding(("embed",))]
  assert device_bytes(arrays, shardings) == 2 * (16 * 64 + 16)
  placed = [
    jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioner.replicated()) for x in arrays
  ]
  assert device_bytes(placed) == 2 * (64 * 128 + 64)
  assert total_bytes(placed) == 2 * (64 * 128 + 64)
