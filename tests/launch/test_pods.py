"""The runs of gin_configs/pods: each fits its TPU and needs no more memory and traffic than before.

What they train is checked in test_pod_recipes.py.

The memory is recorded in hbm_per_chip.json per version of the compiler, libtpu; other versions are
not compared. Each JAX needs its own: pip install -e '.[tpu]'. To record it again, after a change
that is worth more memory:

    RECORD_HBM=1 pytest -n0 -m slow tests/launch/test_pods.py
"""

import dataclasses
import importlib.metadata
import json
import math
import os
from pathlib import Path

import pytest

from launch import precompile
from launch.configuration import reader
from launch.process import environment
from t5x_style.partitioning import MESH_AXES
from t5x_style.planning import layouts, planner, precompile_report, topologies
from t5x_style.training import setup, train_config

FOLDER = Path(__file__).parents[2] / "gin_configs" / "pods"
RECORD = Path(__file__).with_name("hbm_per_chip.json")
PODS = {
  "t5_1_1_base_v5e_4x4": "v5e:4x4",
  "t5_1_1_large_v5e_8x8": "v5e:8x8",
  "t5_1_1_xxl_v5p_4x4x4": "v5p:4x4x4",
  "ul2_20b_v5p_4x4x8": "v5p:4x4x8",
  "bert_large_v4_2x2x4": "v4:2x2x4",
  "llama_8b_v6e_8x8": "v6e:8x8",
  "llama_70b_v5p_8x8x8": "v5p:8x8x8",
  "llama_8b_128k_v5p_4x4x4": "v5p:4x4x4",
  "mixtral_8x7b_v5p_4x4x8": "v5p:4x4x8",
}
needs_libtpu = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")


def read(name):
  config = reader.read([f"pods/{name}.gin"], (), (), precompile.DATA_OVERRIDES)
  return precompile.without_data(config.build(train_config.TrainConfig))


def test_every_pod_is_named_after_its_topology():
  files = {path.stem for path in FOLDER.glob("*.gin")} - {"c4"}
  assert files == PODS.keys()
  for name, topology in PODS.items():
    assert name.endswith(topology.replace(":", "_"))


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("name", PODS)
def test_fits_by_formula(name):
  """Nothing is compiled; the estimate may fill all of the memory."""
  topology, config = topologies.parse(PODS[name]), read(name)
  dataset = config.dataset(
    architecture=config.model.architecture,
    batch_size=config.batch_size,
    seed=0,
    process_index=0,
    process_count=1,
  )
  mesh = dict.fromkeys(MESH_AXES, 1) | dict(config.mesh_shape)
  assert math.prod(mesh.values()) == topology.chips
  assert config.model.dtype == "bfloat16"
  plan = planner.Planner(config, dataset, topology)
  layout = layouts.layout_of_config(config, dataset, mesh)
  fused = plan.fused_attention(layout, topologies.devices(PODS[name]))
  layout = dataclasses.replace(layout, fused_attention=fused)
  assert plan.estimate(layout).bytes <= topology.chip.usable_hbm_bytes


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("name", PODS)
def test_compiles_fits_and_grows_by_no_more_than_two_percent(name):
  environment.set_xla_flags(os.environ, "tpu")
  topology = topologies.parse(PODS[name])
  prepared = setup.prepare(read(name), topologies.devices(topology))
  report = precompile_report.examine(prepared, topology)
  assert report.fits, precompile_report.as_json(report)["too_large"]
  recorded = json.loads(RECORD.read_text())
  of_compiler = recorded.setdefault(importlib.metadata.version("libtpu"), {})
  if os.environ.get("RECORD_HBM"):
    of_compiler[name] = report.hbm_bytes
    RECORD.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n")
  check_what_is_sent(prepared, report.sent)
  if name not in of_compiler:
    pytest.skip(f"nothing is recorded for libtpu {importlib.metadata.version('libtpu')}")
  assert report.hbm_bytes <= 1.02 * of_compiler[name]


def most_choices(prepared, layout):
  """Returns the numbers in what a device's tokens send to the experts, all of them together."""
  experts, model = prepared.config.model.experts, prepared.config.model
  tokens = layout.rows() * max(layout.encoder_length, layout.decoder_length)
  return 1.01 * experts.capacity_factor * experts.experts_per_token * tokens * model.emb_dim


def check_what_is_sent(prepared, sent):
  """Checks that no activations, no stacks of kernels and no logits are gathered."""
  model, layout = prepared.config.model, layouts.layout_of_prepared(prepared)
  fsdp, chips = layout.mesh["fsdp"], math.prod(layout.mesh.values())
  microbatches = prepared.config.num_microbatches
  kernel = max(model.emb_dim * model.mlp_dim, model.emb_dim * model.num_heads * model.head_dim)
  table = model.vocab_size * model.emb_dim
  length = max(layout.encoder_length, layout.decoder_length)
  tokens = layout.rows() * length / layout.mesh["sequence"]  # of a device
  for one in sent:
    for dtype, sizes in one.shapes:
      size = math.prod(sizes)
      if one.kind == "all-to-all" and model.experts is not None:
        assert size <= most_choices(prepared, layout), one
        continue
      if one.kind == "collective-permute" and layout.mesh["sequence"] > 1:  # a ring of devices
        assert size <= tokens * model.num_heads * model.head_dim, one
        continue
      # Nothing that is sent whole is larger than a kernel of one layer, or than the table.
      in_layers = one.in_loop and one.times > microbatches
      # libtpu pads the rows that it scatters, by an eighth at most.
      padded = 1.125 if one.kind == "reduce-scatter" else 1.0
      assert size <= padded * (kernel if in_layers else max(table, kernel)), one
      if one.kind == "all-gather" and dtype in ("bf16", "f32") and size > 2**16:
        assert fsdp > 1, one
  # Over all chips at once libtpu sums instead of scattering, also for psum_scatter; and it sums the
  # gradients of kernels whose last axis is split.
  if 1 < fsdp < chips:
    assert any(one.kind == "reduce-scatter" and one.in_loop for one in sent)
