"""Formulas are compared with what compiled steps need and send."""

import dataclasses
import functools

import jax
import pytest

from t5x_style.losses import chunks_of_device
from t5x_style.planning import compilation, estimates, layouts, planner, topologies
from t5x_style.training import setup, synthetic
from t5x_style.training.step import compile_step
from tests.planning import compiled_step
from tests.planning.small_run import MODEL, a_config, a_layout, a_planner

needs_libtpu = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")


def compiled(tmp_path, model, device, topology, batch_size):
  """Returns (memory of a step compiled for one device, bytes of its state, its estimate)."""
  load = functools.partial(
    synthetic.load, feature_lengths={"targets": 256}, vocab_size=model.vocab_size
  )
  config = a_config(
    tmp_path, model=model, dataset=load, batch_size=batch_size, mesh_shape={"data": 1}
  )
  prepared = setup.prepare(config, [device])
  plan = planner.Planner(config, prepared.dataset, topologies.parse(topology))
  memory = compilation.memory(compile_step(prepared))
  state = memory.arguments - sum(x.size * 4 for x in jax.tree.leaves(prepared.batch))
  return memory, state, plan.estimate(layouts.layout_of_prepared(prepared))


@pytest.mark.parametrize(
  "remat", ["full", *(pytest.param(x, marks=pytest.mark.slow) for x in ("none", "dots"))]
)
def test_memory_is_what_a_compiled_step_takes(remat, tmp_path):
  """The state is exact but for the step's number, the rng and the guard; the rest not too small.

  In float32, because CPUs have no bfloat16 products: XLA would keep float32 copies beside all that
  remat "dots" keeps.
  """
  model = dataclasses.replace(MODEL, remat=remat, dtype="float32")
  memory, state, formula = compiled(tmp_path, model, jax.devices("cpu")[0], "v5e:1x1", 16)
  assert 0 <= state - formula.state_bytes < 1100
  # Versions of XLA differ by half in what they keep; the formula must not promise too much.
  assert 0.9 < formula.temporary_bytes / memory.temporaries < 2


def test_logits_of_a_chunk_are_counted_and_of_a_masked_lm_the_chosen_positions_only(tmp_path):
  """With 131,072 ids a chunk's logits take most of the memory; six positions have few logits."""
  large = dataclasses.replace(MODEL, vocab_size=2**17, emb_dim=64, num_decoder_layers=1)
  plan = a_planner(tmp_path, "v5e:1x1", model=large)
  chunk = chunks_of_device(64 * 256, 2**17, "bfloat16", "tpu").bytes
  layout = dataclasses.replace(a_layout(plan, "full"), fused_attention=True)
  every = estimates.activation_bytes(large, layout)
  assert chunk < every < 1.3 * chunk
  few = estimates.activation_bytes(large, dataclasses.replace(layout, target_positions=6))
  assert few < 0.5 * chunk


@needs_libtpu
@pytest.mark.slow
def test_logits_take_what_the_loss_sets_aside_for_them(tmp_path):
  """16,384 tokens have 131,072 logits each: the loss computes them in chunks."""
  model = dataclasses.replace(
    MODEL, vocab_size=2**17, emb_dim=128, num_heads=2, mlp_dim=256, num_decoder_layers=1
  )
  device = topologies.devices("v5e:1x1")[0]
  memory, _, formula = compiled(tmp_path, model, device, "v5e:1x1", 64)
  assert 0.6 * formula.temporary_bytes < memory.temporaries < formula.temporary_bytes


# A mesh, and the bounds of formula / compiled program without remat and with remat "full".
MESHES = {
  "data": ({"data": 8}, (0.99, 1.01), (0.99, 1.01)),
  # With remat the formula gathers a third time; the compiler for CPUs reuses the second gather.
  "fsdp": ({"fsdp": 8}, (0.95, 1.1), (1.1, 1.4)),
  "tensor": ({"data": 4, "tensor": 2}, (0.6, 1.1), (0.6, 1.1)),
}


@pytest.mark.parametrize(
  ("name", "remat"),
  [
    ("data", "none"),
    *(
      pytest.param(name, remat, marks=pytest.mark.slow)
      for name in ("fsdp", "tensor")
      for remat in ("none", "full")
    ),
  ],
)
def test_collectives_are_those_of_a_compiled_step(name, remat, on_eight_devices, tmp_path):
  mesh, *bounds = MESHES[name]
  arguments = ("decoder_only", mesh, remat, tmp_path)
  compiled = compiled_step.collectives_on(on_eight_devices, *arguments)
  config = compiled_step.a_config(*arguments)
  dataset = config.dataset("decoder_only", config.batch_size, 0, 0, 1)
  plan = planner.Planner(config, dataset, topologies.parse("v5e:2x4"))
  sizes = dict.fromkeys(("data", "fsdp", "sequence", "tensor"), 1) | mesh
  formula = plan.collectives(layouts.layout_of_config(config, dataset, sizes))
  ratio = sum(x.wire_bytes for x in formula) / sum(x.wire_bytes for x in compiled)
  least, most = bounds[remat == "full"]
  assert least < ratio < most
  if name == "fsdp":
    gathered = [[x for x in y if x.kind == "all-gather"] for y in (formula, compiled)]
    by_formula, by_compiler = (sum(x.wire_bytes for x in y) for y in gathered)
    assert by_formula == pytest.approx(by_compiler, rel=0.01 if remat == "none" else 0.5)


def test_gradients_are_scattered_over_some_chips_and_summed_over_all(tmp_path):
  """Four layers of 2,621,440 parameters are 20,971,520 bytes in bfloat16, norms aside."""
  plan = a_planner(tmp_path)
  sent = plan.collectives(a_layout(plan, "full", fsdp=16))
  assert {one.kind for one in sent} == {"all-gather", "all-reduce"}
  sent = plan.collectives(a_layout(plan, "full", data=4, fsdp=4))
  scatter = next(one for one in sent if one.kind == "reduce-scatter")
  assert scatter.bytes * scatter.times == pytest.approx(20_971_520, rel=0.01)


def test_gradients_are_summed_in_a_slice_and_their_parts_between_slices(tmp_path):
  """Of data = 8 over two slices, 4 are within one: between the slices a chip sends its quarter."""
  plan = a_planner(tmp_path, slices=2)
  sent = [one for one in plan.collectives(a_layout(plan, data=8, fsdp=4)) if one.where == "data"]
  within, between = sorted(sent, key=lambda one: one.network, reverse=True)
  assert (within.network, within.group) == ("ici", 4)
  assert (between.network, between.group) == ("dcn", 2)
  assert between.bytes == within.bytes // 4
  assert {one.kind for one in sent} == {"all-reduce"}
  flat = a_planner(tmp_path).collectives(a_layout(plan, data=4, fsdp=4))
  assert within.bytes == next(one.bytes for one in flat if one.where == "data")
