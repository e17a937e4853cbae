"""What the gradient of an embedding table sends between eight simulated devices.

Run by test_ops.py. Prints for each mesh [largest error, collectives].
"""

import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from t5x_style.models import TransformerConfig, layers
from t5x_style.partitioning import Partitioner, active_mesh, make_mesh

CONFIG = TransformerConfig(64, 32, 1, 32, 32, num_decoder_layers=1)
ROWS = 64, 2  # Many rows, and so few that the gradient is one product.
COLLECTIVE = r"= (?:\()?(\w+)\[([\d,]*)\]\S* (all-gather|all-reduce|all-to-all)(?:-start)?\("
cotangent = np.random.default_rng(1).normal(size=(16, 300, 32)).astype(np.float32)


def gradient(partitioner, num_rows, ids):
  embed = layers.Embed(CONFIG, num_rows)
  rows = NamedSharding(partitioner.mesh, PartitionSpec(("data", "fsdp")))
  columns = NamedSharding(partitioner.mesh, PartitionSpec(None, "fsdp"))

  def run(params, ids, cotangent):
    def out(params):
      vectors = embed.apply({"params": params}, ids)
      return nn.with_logical_constraint(vectors, ("batch", "length", "embed"))

    return jax.vjp(out, params)[1](cotangent)[0]

  with partitioner.context():
    arguments = (
      {"embedding": jax.device_put(jnp.zeros((num_rows, 32)), columns)},
      *(jax.device_put(x, rows) for x in (ids, cotangent)),
    )
    compiled = jax.jit(run, out_shardings={"embedding": columns}).lower(*arguments).compile()
    return compiled(*arguments)["embedding"], re.findall(COLLECTIVE, compiled.as_text())


active_mesh.current_platform = lambda: "gpu"
for num_rows in ROWS:
  ids = np.random.default_rng(0).integers(0, num_rows, (16, 300))
  table = np.zeros((num_rows, 32))
  np.add.at(table, ids, cotangent)
  for mesh in ({"data": 2, "fsdp": 4}, {"fsdp": 8}, {"data": 8}):
    found, sent = gradient(Partitioner(make_mesh(mesh)), num_rows, ids)
    print(json.dumps([float(np.abs(found - table).max() / np.abs(table).max()), sent]))
