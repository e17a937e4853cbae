"""Shardings: which rule takes which axis, mistakes refused."""

import jax
import pytest

from t5x_style.partitioning import Partitioner, make_mesh


def fake_mesh(**shape):
  """A partitioner of a mesh that only has a shape: for rules that make no array."""
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
    fake_mesh(data=8).check_batch(12, 1, {})
  with pytest.raises(ValueError, match="encoder_input_tokens has 114 tokens"):
    fake_mesh(sequence=4).check_batch(8, 1, {"encoder_input_tokens": 114})


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


def test_optimizer_state_lies_as_its_parameter_does():
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
