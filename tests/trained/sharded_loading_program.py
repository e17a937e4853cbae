"""Run by test_loading.py: loads models over eight devices, and trains one there."""

import sys

import jax
import numpy as np

import t5x_style
from t5x_style.training.state import named_leaves
from tests import tiny


def main(saved_on_one, model_dir):
  model = t5x_style.load(saved_on_one, mesh_shape={"data": 2, "fsdp": 2, "tensor": 2})
  table = model.params["token_embed"]["embedding"]
  assert len(table.sharding.device_set) == 8
  print(table.addressable_shards[0].data.shape, float(np.abs(np.asarray(table)).sum()))
  for name, x in named_leaves(model.params).items():
    if name.endswith("mlp/wo/kernel"):
      assert x.addressable_shards[0].data.size == x.size // 4, (name, x.sharding)
  single = t5x_style.load(saved_on_one)
  assert all(len(x.sharding.device_set) == 1 for x in jax.tree.leaves(single.params))
  changes = {"mesh_shape": {"fsdp": 4, "tensor": 2}, "train_steps": 2, "save_period": 2}
  tiny.train(tiny.config("decoder_only", model_dir, **changes))


if __name__ == "__main__":
  main(*sys.argv[1:])
