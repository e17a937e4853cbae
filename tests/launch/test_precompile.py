"""launch.precompile: mistakes, formulas against those of the hand, the ranking, what is printed."""

import dataclasses
import functools
import io
import json

import jax
import pytest
from rich.console import Console

from launch import precompile
from launch.configuration import reader
from launch.configuration.errors import ConfigurationError
from t5x_style.errors import UserError
from t5x_style.losses import chunks_of_device
from t5x_style.models import TransformerConfig
from t5x_style.planning import (
  compilation,
  estimates,
  layouts,
  planner,
  precompile_report,
  precompile_search,
  topologies,
)
from t5x_style.training import loop, optimizers, schedules, setup, synthetic, train_config

needs_libtpu = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")

LAYERS, WIDTH, MLP, VOCAB = 4, 512, 1024, 8192
MODEL = TransformerConfig(
  vocab_size=VOCAB,
  emb_dim=WIDTH,
  num_heads=8,
  head_dim=64,
  mlp_dim=MLP,
  num_decoder_layers=LAYERS,
  positions="rotary",
  dtype="bfloat16",
)
LAYER = 4 * WIDTH * WIDTH + 3 * WIDTH * MLP  # parameters of kernels


def a_config(tmp_path, **changes):
  config = train_config.TrainConfig(
    model=MODEL,
    dataset=functools.partial(
      synthetic.load, feature_lengths={"targets": 256}, vocab_size=MODEL.vocab_size
    ),
    optimizer=optimizers.adamw,
    schedule=schedules.constant(1e-3),
    model_dir=str(tmp_path / "untouched"),
    train_steps=1000,
    batch_size=64,
  )
  return dataclasses.replace(config, **changes)


def a_planner(tmp_path, topology="v5e:4x4", **changes):
  config = a_config(tmp_path, **changes)
  dataset = config.dataset("decoder_only", config.batch_size, 0, 0, 1)
  return planner.Planner(config, dataset, topologies.parse(topology))


def a_layout(plan, remat="full", microbatches=1, **mesh):
  sizes = dict.fromkeys(("data", "fsdp", "sequence", "tensor"), 1) | mesh
  layout = layouts.layout_of_config(plan.config, plan.dataset, sizes)
  return dataclasses.replace(layout, remat=remat, microbatches=microbatches)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "--topology is missing: .* such as v4:2x2x4"),
    (["--topology=v9:2x2"], "names 'v9'"),
    (["--topology=v5e:4x4", "--write=x.gin"], "add --search"),
    (["--topology=v5e:4x4", "--slices=0"], "slices"),
    (["--topology=v5e:4x4", "--dry_run"], "no flag --dry_run"),
  ],
)
def test_mistakes(arguments, message, monkeypatch):
  monkeypatch.setattr(precompile.environment, "prepare", lambda: None)
  monkeypatch.setattr(precompile.environment, "set_xla_flags", lambda *_: None)
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  with pytest.raises(ConfigurationError, match=message):
    precompile.main(["precompile", "--gin_file=quickstart.gin", *arguments])


def test_batches_have_their_true_shapes_and_nothing_is_read(tmp_path):
  """The vocabulary's file and the corpus are nowhere; span corruption makes 114 targets of 512."""
  files = ["runs/pretrain.gin", "models/encoder_decoder_mini.gin", "data/c4.gin"]
  bindings = [f"MODEL_DIR = '{tmp_path}/untouched'", "VOCAB_SIZE = 32128", "DATA_STREAMS = 4"]
  settings = reader.read([*files, "objectives/span_corruption.gin"], bindings, (), precompile.DATA)
  config = precompile.without_data(settings.build(train_config.TrainConfig))
  dataset = config.dataset(
    architecture="encoder_decoder", batch_size=8, seed=0, process_index=0, process_count=1
  )
  shapes = {name: x.shape for name, x in dataset.feature_shapes.items()}
  assert shapes["encoder_input_tokens"] == (8, 512)
  assert shapes["decoder_target_tokens"] == (8, 114)
  assert dataset.vocab_size == 32128
  assert not (tmp_path / "untouched").exists()


def compiled(tmp_path, model, device, topology, batch_size):
  """(what the compiler sets aside, what the formula says) of a step on one device."""
  load = functools.partial(
    synthetic.load, feature_lengths={"targets": 256}, vocab_size=model.vocab_size
  )
  config = a_config(
    tmp_path, model=model, dataset=load, batch_size=batch_size, mesh_shape={"data": 1}
  )
  prepared = setup.prepare(config, [device])
  plan = planner.Planner(config, prepared.dataset, topologies.parse(topology))
  memory = compilation.memory(loop.compile_step(prepared))
  state = memory.arguments - sum(x.size * 4 for x in jax.tree.leaves(prepared.batch))
  return memory, state, plan.estimate(layouts.layout_of_prepared(prepared))


@pytest.mark.parametrize(
  "remat", ["full", *(pytest.param(x, marks=pytest.mark.slow) for x in ("none", "dots"))]
)
def test_memory_is_what_a_compiled_step_takes(remat, tmp_path):
  """The state to the byte but for the step's number and the rng; of the rest not too little."""
  model = dataclasses.replace(MODEL, remat=remat)
  memory, state, formula = compiled(tmp_path, model, jax.devices("cpu")[0], "v5e:1x1", 16)
  assert 0 <= state - formula.state_bytes < 64
  # Versions of XLA differ by half in what they keep; the formula must not promise too much.
  assert 0.9 < formula.temporary_bytes / memory.temporaries < 2


def test_logits_of_a_chunk_are_counted_and_of_a_masked_lm_the_chosen_positions_only(tmp_path):
  """1.5 GiB beside a kernel and activations of a quarter of it; a fortieth of 512 positions."""
  large = dataclasses.replace(MODEL, vocab_size=2**17, emb_dim=64, num_decoder_layers=1)
  plan = a_planner(tmp_path, "v5e:1x1", model=large)
  chunk = chunks_of_device(64 * 256, 2**17, "bfloat16", "tpu").bytes
  assert chunk == 1.5 * 2**30
  layout = dataclasses.replace(a_layout(plan, "full"), fused_attention=True)
  every = estimates.activation_bytes(large, layout)
  assert chunk < every < 1.3 * chunk
  few = estimates.activation_bytes(large, dataclasses.replace(layout, target_positions=6))
  assert every - few == chunk - 64 * 6 * 2**17 * 6


@needs_libtpu
@pytest.mark.slow
def test_logits_take_what_the_loss_sets_aside_for_them(tmp_path):
  """16,384 tokens of 131,072 logits: the loss cuts them into chunks; XLA may keep less of one."""
  model = dataclasses.replace(
    MODEL, vocab_size=2**17, emb_dim=128, num_heads=2, mlp_dim=256, num_decoder_layers=1
  )
  device = topologies.devices("v5e:1x1")[0]
  memory, _, formula = compiled(tmp_path, model, device, "v5e:1x1", 64)
  assert 0.6 * formula.temporary_bytes < memory.temporaries < formula.temporary_bytes


def test_collectives_by_hand(tmp_path):
  """Fully sharded: kernels in bfloat16 three times with remat, twice without; gradients once."""
  plan = a_planner(tmp_path)
  for remat, passes in (("full", 3), ("none", 2)):
    sent = plan.collectives(a_layout(plan, remat, fsdp=16))
    layers = next(one for one in sent if one.kind == "all-gather")
    assert layers.bytes * layers.times == pytest.approx(passes * 2 * LAYERS * LAYER, rel=0.01)
    assert layers.wire_bytes == layers.bytes * layers.times * 15 / 16
    # Over all chips gradients are summed, over some they are scattered.
    assert {one.kind for one in sent} == {"all-gather", "all-reduce"}
  sent = plan.collectives(a_layout(plan, "full", data=4, fsdp=4))
  scatter = next(one for one in sent if one.kind == "reduce-scatter")
  assert scatter.bytes * scatter.times == pytest.approx(2 * LAYERS * LAYER, rel=0.01)
  sent = plan.collectives(a_layout(plan, "full", data=4, tensor=4))
  assert {one.kind for one in sent} == {"all-reduce"}
  # Tensor parallel: two sums of [rows, length, D] a layer and pass, in bfloat16.
  (activations,) = [one for one in sent if one.where == "tensor"][:1]
  assert activations.bytes == 64 / 4 * 256 * WIDTH * 2
  assert activations.times == 3 * 2 * LAYERS


def test_remat_and_microbatches_cost_time_and_give_memory(tmp_path):
  plan = a_planner(tmp_path)
  of = {remat: plan.estimate(a_layout(plan, remat, data=16)) for remat in ("none", "dots", "full")}
  assert of["none"].bytes > of["dots"].bytes > of["full"].bytes
  assert of["none"].roofline.compute < of["dots"].roofline.compute < of["full"].roofline.compute
  assert of["full"].roofline.compute / of["none"].roofline.compute < 4 / 3
  fewer = plan.estimate(a_layout(plan, "none", 4, data=16))
  assert fewer.roofline.hbm > of["none"].roofline.hbm


@needs_libtpu
def test_which_kernel_attends_is_asked_for_each_mesh(tmp_path):
  model = dataclasses.replace(MODEL, positions="relative")
  plan = a_planner(tmp_path, model=model)
  devices = topologies.devices(topologies.parse("v5e:4x4"))
  assert plan.fused_attention(a_layout(plan, fsdp=16), devices)
  assert plan.fused_attention(a_layout(plan, fsdp=8, tensor=2), devices)
  # The kernel for T5's bias cannot split the length.
  assert not plan.fused_attention(a_layout(plan, fsdp=8, sequence=2), devices)


def test_search_by_formula_is_ranked_and_written_only_when_compiled(tmp_path):
  found = precompile_search.search(a_config(tmp_path), topologies.parse("v5e:4x4"), [], compiles=0)
  value = precompile_search.as_json(found)
  assert value["tried"] == len(value["candidates"]) > 50
  fitting = [row for row in value["candidates"] if row["fits"]]
  assert fitting == value["candidates"][: len(fitting)]
  seconds = [row["predicted_step_seconds"] for row in fitting]
  assert seconds == sorted(seconds)
  for row in fitting:
    sizes = row["mesh"].values()
    assert functools.reduce(lambda a, b: a * b, sizes) == 16
  assert value["winner"] is None
  with pytest.raises(UserError, match="no winner to write"):
    precompile_search.gin_text(found)
  out = io.StringIO()
  precompile_search.show(found, Console(file=out, width=110, color_system=None))
  assert "microbatches" in out.getvalue() and "formula" in out.getvalue()


def test_batch_that_divides_over_no_mesh_is_refused(tmp_path):
  with pytest.raises(UserError, match="BATCH_SIZE = 7 divides over no mesh"):
    config = a_config(tmp_path, batch_size=7)
    precompile_search.search(config, topologies.parse("v5e:16x16"), [], compiles=0)


@needs_libtpu
def test_too_large_is_an_answer_with_three_settings_that_fit(tmp_path):
  """14 GB of parameters and their moments on a v5e of 16 GiB, before any activation."""
  wide = dataclasses.replace(MODEL, emb_dim=4096, mlp_dim=16384, num_decoder_layers=5)
  config = a_config(tmp_path, model=wide, mesh_shape={"data": 4})
  topology = topologies.parse("v5e:2x2")
  prepared = setup.prepare(config, topologies.devices(topology))
  assert not (tmp_path / "untouched").exists()
  report = precompile_report.examine(prepared, topology)
  value = json.loads(json.dumps(precompile_report.as_json(report)))
  assert {
    "topology", "chips", "hbm_bytes_per_chip", "hbm_limit_bytes", "fits", "flops_per_step",
    "predicted_step_seconds", "mfu_bound", "collectives",
  } <= value.keys()  # fmt: skip
  assert (value["fits"], value["chips"], value["topology"]) == (False, 4, "v5e:2x2")
  assert value["hbm_bytes_per_chip"] > value["hbm_limit_bytes"]
  parameters = sum(x.size for x in jax.tree.leaves(prepared.abstract.params))
  assert value["memory"]["parameters"] == 4 * parameters
  assert value["memory"]["optimizer state"] == pytest.approx(8 * parameters, rel=1e-3)
  assert len(value["alternatives"]) == 3
  for one in value["alternatives"]:
    assert "fsdp" in one["change"] or "tensor" in one["change"]
    assert one["hbm_bytes_per_chip"] <= value["hbm_limit_bytes"]
  out = io.StringIO()
  precompile_report.show(report, Console(file=out, width=110, color_system=None))
  text = out.getvalue()
  assert "It does not fit" in text and "MESH_SHAPE = " in text and "chip-hours" in text
