"""The loss on meshes of eight simulated devices, as JSON, one line per mesh.

Run by test_linear_cross_entropy_sharded.py. Each argument gives the sizes of the axes data, fsdp,
sequence and tensor, for example 2,2,1,2. After the argument "gpu" programs are those of a GPU.
"""

import json
import re
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from t5x_style.losses import linear_cross_entropy, plan_chunks
from t5x_style.partitioning import Partitioner, active_mesh, make_mesh

ROWS, LENGTH, EMB_DIM, VOCAB_SIZE, CHUNK_SIZE = 8, 10, 16, 256, 6
COLLECTIVE = re.compile(
  r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\((.*)"
)


def loss(hidden, kernel, bias, targets, weights, chunk_size):
  sums = linear_cross_entropy(
    hidden,
    kernel,
    targets,
    weights,
    bias=bias,
    z_loss=0.01,
    label_smoothing=0.1,
    logit_soft_cap=3.0,
    chunk_size=chunk_size,
    return_per_token=True,
  )
  # Both the gradients taken in the forward pass and those of single tokens.
  return sums.loss_sum + 0.5 * (weights**2 * sums.per_token.loss).sum(), sums


def make_inputs():
  rng = np.random.default_rng(0)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  targets = rng.integers(0, VOCAB_SIZE, (ROWS, LENGTH))
  weights = rng.random((ROWS, LENGTH)).astype(np.float32)
  weights[0, :3] = 0
  inputs = normal(ROWS, LENGTH, EMB_DIM), normal(EMB_DIM, VOCAB_SIZE), normal(VOCAB_SIZE)
  return (*inputs, targets.astype(np.int32), weights)


def collectives(hlo):
  """Returns [operation, shapes of its results, whether it is in the scan] of each collective."""
  found = []
  for shapes, operation, rest in COLLECTIVE.findall(hlo):
    arrays = [
      [int(n) for n in sizes.split(",") if n] for sizes in re.findall(r"\[([\d,]*)\]", shapes)
    ]
    found.append([operation, arrays, "/while" in rest])
  return found


def on_mesh(sizes, inputs, expected):
  mesh = make_mesh(dict(zip(("data", "fsdp", "sequence", "tensor"), sizes, strict=True)))
  length = None if LENGTH % sizes[2] else "sequence"
  rows = PartitionSpec(("data", "fsdp"), length)
  specs = (rows, PartitionSpec("fsdp", "tensor"), PartitionSpec("tensor"), rows, rows)
  shardings = tuple(NamedSharding(mesh, spec) for spec in specs)
  report = {}
  for chunk_size in (CHUNK_SIZE, None):
    function = jax.jit(
      jax.value_and_grad(loss, (0, 1, 2), has_aux=True),
      static_argnums=5,
      out_shardings=(None, shardings[:3]),
    )
    with jax.set_mesh(mesh), nn.logical_axis_rules(Partitioner(mesh).active_rules()):
      chunks = plan_chunks(inputs[0].shape, VOCAB_SIZE, jnp.float32, chunk_size)
      placed = jax.device_put(inputs, shardings)
      compiled = function.lower(*placed, chunk_size).compile()
      got = compiled(*placed)
    leaves = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in leaves]
    errors = [float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-9)) for x, y in pairs]
    report[str(chunk_size)] = {
      "error": max(errors),
      "chunks": chunks._asdict(),
      "collectives": collectives(compiled.as_text()),
    }
  return report


def main():
  inputs = make_inputs()
  expected = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*inputs, None)
  for argument in sys.argv[1:]:
    if argument == "gpu":
      active_mesh.current_platform = lambda: "gpu"
      continue
    sizes = [int(n) for n in argument.split(",")]
    print(json.dumps({"mesh": sizes} | on_mesh(sizes, inputs, expected)), flush=True)


if __name__ == "__main__":
  main()
