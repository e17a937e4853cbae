"""A small decoder-only run to plan for."""

import dataclasses
import functools

from t5x_style.models import TransformerConfig
from t5x_style.planning import layouts, planner, topologies
from t5x_style.training import optimizers, schedules, synthetic, train_config

MODEL = TransformerConfig(
  vocab_size=8192,
  emb_dim=512,
  num_heads=8,
  head_dim=64,
  mlp_dim=1024,
  num_decoder_layers=4,
  positions="rotary",
  dtype="bfloat16",
)


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


def a_planner(tmp_path, topology="v5e:4x4", slices=1, **changes):
  config = a_config(tmp_path, **changes)
  dataset = config.dataset("decoder_only", config.batch_size, 0, 0, 1)
  return planner.Planner(config, dataset, topologies.parse(topology, slices))


def a_layout(plan, remat="full", microbatches=1, **mesh):
  sizes = dict.fromkeys(("data", "fsdp", "sequence", "tensor"), 1) | mesh
  layout = layouts.layout_of_config(plan.config, plan.dataset, sizes)
  return dataclasses.replace(layout, remat=remat, microbatches=microbatches)
