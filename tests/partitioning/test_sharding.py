"""Meshes and shardings: equal losses on every mesh, mistakes refused."""

import json
import os
import subprocess
import sys

import jax
import pytest

from t5x_style.partitioning import Partitioner, make_mesh

# Trains a tiny model on eight simulated devices with the mesh of its argument; prints the losses,
# and the bytes of parameters and optimizer state of one device over those of all.
PROGRAM = """
import functools, json, sys
import jax, numpy as np
from t5x_style.models import TransformerConfig
from t5x_style.training import optimizers, run, schedules, synthetic, train
architecture, meshes = sys.argv[1], json.loads(sys.argv[2])
layers = {
  "encoder_decoder": {"num_encoder_layers": 2, "num_decoder_layers": 2},
  "decoder_only": {"num_decoder_layers": 2, "positions": "rotary", "num_kv_heads": 4},
  "encoder_only": {"num_encoder_layers": 2, "positions": "rotary"},
}[architecture]
for mesh in meshes:
  count = int(np.prod(list(mesh.values())))
  config = TransformerConfig(
    vocab_size=256, emb_dim=64, num_heads=8, head_dim=16, mlp_dim=128, dropout_rate=0.1,
    remat="dots", **layers)
  load = functools.partial(
    synthetic.load, feature_lengths={"inputs": 32, "targets": 16}, vocab_size=256)
  a_run = run.Run(
    model=config, dataset=load, optimizer=optimizers.adamw, schedule=schedules.constant(1e-3),
    model_dir=sys.argv[3], train_steps=5, batch_size=16, num_microbatches=2, mesh_shape=mesh)
  devices = jax.devices
  jax.devices = lambda *a: devices(*a)[:count]
  prepared = run.prepare(a_run)
  jax.devices = devices
  state, step = prepared.init(0), train.compile_step(prepared)
  iterator, losses = prepared.dataset.train(), []
  for _ in range(5):
    state, sums = step(state, prepared.partitioner.put(next(iterator)))
    losses.append(float(sums["loss"] / sums["weight"]))
  def share(tree):
    leaves = jax.tree.leaves(tree)
    return sum(x.addressable_shards[0].data.nbytes for x in leaves) / sum(x.nbytes for x in leaves)
  print(json.dumps([mesh, losses, share(state.params), share(state.opt_state)]), flush=True)
"""

MESHES = (
  {"data": 1},
  {"data": 8},
  {"fsdp": 8},
  {"tensor": 4},
  {"data": 2, "fsdp": 2, "tensor": 2},
  {"sequence": 4, "data": 2},
)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["encoder_decoder", "decoder_only", "encoder_only"])
def test_every_mesh_gives_the_losses_of_one_device(architecture, tmp_path):
  """Dropout, microbatches and remat included: the rng does not depend on the mesh."""
  environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
  arguments = [architecture, json.dumps(MESHES), str(tmp_path)]
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, *arguments],
    env=environment,
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
  assert len(results) == len(MESHES)
  expected = results[0][1]
  assert expected[-1] != expected[0]
  for mesh, losses, params, opt_state in results:
    assert losses == pytest.approx(expected, rel=2e-5), mesh
    split = mesh.get("fsdp", 1) * mesh.get("tensor", 1)
    # Norms and position biases stay whole; everything large is split.
    assert params == pytest.approx(1 / split, rel=0.15), mesh
    assert opt_state == pytest.approx(1 / split, rel=0.15), mesh


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


def test_one_process_reads_the_whole_batch():
  assert Partitioner(make_mesh()).data_share() == (0, 1)
