"""Run by test_equivalence.py on eight simulated devices: trains on meshes, prints JSON for each.

Arguments: a name of FAMILIES, a JSON list of MESH_SHAPEs, the first of which is compared with, and
the number of steps.
"""

import functools
import json
import re
import sys
import tempfile

import jax
import numpy as np
import optax

from t5x_style.models import Experts, TransformerConfig
from t5x_style.training import schedules, setup, synthetic, train_config
from t5x_style.training.step import compile_step

STEPS = int(sys.argv[3]) if len(sys.argv) > 3 else 20
ROWS, INPUTS, TARGETS = 16, 24, 16  # The two lengths differ, and are multiples of four.
LAYERS, EMB_DIM, MLP_DIM, VOCAB_SIZE = 2, 40, 56, 120

FAMILIES = {
  "encoder_decoder": {"num_encoder_layers": LAYERS, "num_decoder_layers": LAYERS},
  "decoder_only": {
    "dropout_places": "bert",
    "attention_dropout_rate": 0.1,
    "num_decoder_layers": LAYERS,
    "positions": "rotary",
    "num_kv_heads": 2,
  },
  "long_rows": {
    "num_decoder_layers": LAYERS,
    "positions": "rotary",
    "num_kv_heads": 2,
    "attention_windows": (None, 5),
  },
  "encoder_only": {"num_encoder_layers": LAYERS, "positions": "rotary", "head_bias": True},
  "experts": {
    "num_decoder_layers": LAYERS,
    "positions": "rotary",
    "experts": Experts(
      num_experts=8,
      experts_per_token=2,
      normalize=True,
      dropout_rate=0.2,
      balance_loss=0.1,
      router_z_loss=0.01,
    ),
  },
  "experts_with_capacity": {
    "num_encoder_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "experts": Experts(
      num_experts=8,
      every=2,
      dropout_rate=0.2,
      capacity_factor=0.8,
      balance_loss=0.1,
      router_jitter=0.1,
    ),
  },
}
COLLECTIVE = re.compile(
  r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\((.*)"
)


class Packed:
  """Returns random tokens in rows of two documents and padding, as packing makes them."""

  def __init__(self, dataset):
    self._dataset = dataset
    self.feature_shapes = dict(dataset.feature_shapes)
    for name, feature in dataset.feature_shapes.items():
      if name.endswith("_input_tokens"):
        for suffix in ("segment_ids", "positions"):
          self.feature_shapes[name.replace("input_tokens", suffix)] = feature

  def __getattr__(self, name):
    return getattr(self._dataset, name)

  def batch(self, number):
    features = self._dataset.batch(number)
    rng = np.random.default_rng(number)
    for name in [name for name in features if name.endswith("_input_tokens")]:
      side, (rows, length) = name.split("_")[0], features[name].shape
      place = np.arange(length)
      cut = rng.integers(3, length // 2, (rows, 1))
      end = rng.integers(length // 2, length + 1, (rows, 1))
      segments = np.where(place < cut, 1, 2) * (place < end)
      features[f"{side}_segment_ids"] = segments.astype(np.int32)
      features[f"{side}_positions"] = np.where(place < cut, place, place - cut).astype(np.int32)
      for token in ("input_tokens", "target_tokens", "loss_weights"):
        if f"{side}_{token}" in features:
          features[f"{side}_{token}"] *= (segments > 0).astype(features[f"{side}_{token}"].dtype)
    return features

  def train(self):
    return map(self.batch, range(STEPS))


def load(**settings):
  lengths = {"inputs": INPUTS, "targets": TARGETS}
  return Packed(synthetic.load(**settings, feature_lengths=lengths, vocab_size=VOCAB_SIZE))


def prepare(architecture, mesh, folder):
  model = TransformerConfig(
    vocab_size=VOCAB_SIZE,
    emb_dim=EMB_DIM,
    num_heads=8,
    head_dim=4,
    mlp_dim=MLP_DIM,
    dropout_rate=0.1,
    remat="full",
    **FAMILIES[architecture],
  )
  config = train_config.TrainConfig(
    model=model,
    dataset=load,
    # Adam divides by the gradient's own size: where that is almost zero, float32 noise decides the
    # sign of a whole step. With only momentum, parameters differ by no more than gradients do.
    optimizer=functools.partial(optax.sgd, momentum=0.9),
    schedule=schedules.constant(0.02),
    model_dir=folder,
    train_steps=STEPS,
    batch_size=ROWS,
    num_microbatches=2,
    mesh_shape=mesh,
  )
  return setup.prepare(config, jax.devices()[: int(np.prod(list(mesh.values())))])


def collectives(hlo):
  """Returns [operation, sizes of each array of its result, where in the program] of each."""
  found = []
  for shapes, operation, rest in COLLECTIVE.findall(hlo):
    arrays = [
      [int(n) for n in sizes.split(",") if n] for sizes in re.findall(r"\[([\d,]*)\]", shapes)
    ]
    name = re.search(r'op_name="([^"]*)"', rest)
    found.append([operation, arrays, name.group(1) if name else ""])
  return found


def held(tree):
  """Returns the bytes on the first device over those of all the tree's arrays."""
  leaves = jax.tree.leaves(tree)
  return sum(x.addressable_shards[0].data.nbytes for x in leaves) / sum(x.nbytes for x in leaves)


def difference(params, start, expected):
  """Returns how much the parameter that differs most differs, over how far training moved it."""
  worst = jax.tree.map(
    lambda x, a, b: float(np.abs(x - b).max() / np.abs(b - a).max()), params, start, expected
  )
  leaves = jax.tree_util.tree_flatten_with_path(worst)[0]
  path, value = max(leaves, key=lambda item: item[1])
  return value, jax.tree_util.keystr(path, simple=True, separator="/")


def main():
  architecture, meshes = sys.argv[1], json.loads(sys.argv[2])
  start = expected = None
  for mesh in meshes:
    with tempfile.TemporaryDirectory() as folder:
      prepared = prepare(architecture, mesh, folder)
    # Compiled on the first mesh and, for comparison, on the last.
    compared = expected is not None and mesh == meshes[-1]
    state = (
      prepared.init(0)
      if expected is None or compared
      else jax.device_put(start, prepared.shardings)
    )
    if expected is None:
      start = jax.device_get(state)
    if compared:
      jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), start)
    step = compile_step(prepared)
    losses = []
    for batch in prepared.dataset.train():
      state, metrics = step(state, prepared.partitioner.put(batch))
      losses.append(float(metrics.sums.loss / metrics.sums.weight))
    params = jax.device_get(state.params)
    expected = expected or params
    apart, where = difference(params, start.params, expected)
    report = {
      "mesh": mesh,
      "losses": losses,
      "apart": apart,
      "where": where,
      "params": held(state.params),
      "opt_state": held(state.opt_state),
      "temporary_bytes": step.memory_analysis().temp_size_in_bytes,
      "kernels": sorted({choice.name for choice in prepared.attention.values()}),
      "kv_heads": prepared.config.model.kv_heads,
      "collectives": collectives(step.as_text()),
      "layer": max(
        x.size // LAYERS
        for path, x in jax.tree_util.tree_flatten_with_path(params)[0]
        if "layers" in jax.tree_util.keystr(path)
      ),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
  main()
