"""Ring attention on eight simulated devices, against float64.

Arguments: meshes, names of patterns, both in JSON. Prints, for each mesh and pattern, the largest
error of the output and of each gradient as a fraction of its largest entry. Then, for rows of 2,048
tokens on eight devices, what the program holds.
"""

import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.models.attention import attend
from t5x_style.models.attention_kernels import ring
from t5x_style.models.attention_kernels.pattern import AttentionSpec, Pattern
from t5x_style.models.attention_kernels.select import attention_inputs, choose_kernel
from t5x_style.partitioning import Partitioner, make_mesh
from t5x_style.planning import hlo
from tests.models.attention_kernels.conftest import (
  LENGTH,
  REACH,
  SCALE,
  SEGMENTS,
  bias_of_all_pairs,
  gradient_by_distance,
  make_pattern,
  reference,
)

B, N, K, H = 2, 4, 1, 8  # One key head, also where heads are split.
SOFT_CAP = 3.0
ring._BLOCK, ring._MULTIPLE = 16, 8  # Parts of 25 tokens are padded to two blocks of 16.
NAMES = ("batch", "length", None, None)


def compiled(partitioner, pattern, arrays, bias):
  """Returns a program of (query, key, value, bias, pattern, cotangent): output and gradients."""
  L, S = arrays[0].shape[1], arrays[1].shape[1]

  def compute(query, key, value, bias, pattern, cotangent):
    spec = AttentionSpec(query.shape, key.shape, "float32", pattern, bias is not None, SOFT_CAP)
    kernel = choose_kernel("auto", "it", spec)
    assert kernel.name == "ring", kernel

    def output(query, key, value, bias):
      shared = attention_inputs(pattern, L, S, bias, kernel)
      return attend(query, key, value, shared, scale=SCALE, soft_cap=SOFT_CAP)

    out, pull = jax.vjp(output, query, key, value, bias)
    return (out, *pull(cotangent))

  placed = [jax.device_put(x, partitioner.sharding(NAMES, x.shape)) for x in arrays]
  of_row = lambda x: jax.device_put(x, partitioner.sharding(("batch", "length"), x.shape))
  arguments = (*placed[:3], bias, jax.tree.map(of_row, pattern), placed[3])
  with partitioner.context():
    return jax.jit(compute).lower(*arguments).compile(), arguments


def errors(partitioner, pattern, S=LENGTH, with_bias=True):
  """Returns the largest error of the output and of each gradient."""
  rng = np.random.default_rng(0)
  shapes = ((B, LENGTH, N, H), (B, S, K, H), (B, S, K, H), (B, LENGTH, N, H))
  arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
  table = jnp.asarray(rng.normal(size=(N, 2 * REACH + 1)), jnp.float32) if with_bias else None
  program, arguments = compiled(partitioner, pattern, arrays, table)
  full = bias_of_all_pairs(table, LENGTH, S) if with_bias else None
  expected = reference(*arrays, pattern.mask(LENGTH, S), full, SCALE, SOFT_CAP)
  if with_bias:
    expected.bias = gradient_by_distance(expected.bias)
  names = ("output", "query", "key", "value", *(["bias"] if with_bias else []))
  return {
    name: float(np.abs(x - getattr(expected, name)).max() / np.abs(getattr(expected, name)).max())
    for name, x in zip(names, program(*arguments), strict=False)
  }


def held(partitioner, length):
  """Returns the numbers in the largest array of a program for long packed rows, its operations."""
  arrays = [np.zeros((B, length, heads, H), np.float32) for heads in (N, K, K, N)]
  ids = np.ones((B, length), np.int32)
  pattern = Pattern(ids, ids, causal=True)
  text = compiled(partitioner, pattern, arrays, jnp.zeros((N, 2 * REACH + 1)))[0].as_text()
  bodies = hlo.parse(text).computations.values()
  instructions = [instruction for body in bodies for instruction in body.values()]
  most = max(math.prod(sizes) for one in instructions for _, sizes in one.shapes)
  return {"most": most, "operations": sorted({one.opcode for one in instructions})}


def main():
  meshes, patterns = map(json.loads, sys.argv[1:])
  for mesh in meshes:
    partitioner = Partitioner(make_mesh(mesh))
    for name in patterns:
      found = errors(partitioner, make_pattern(name))
      print(json.dumps({"mesh": mesh, "pattern": name, "errors": found}), flush=True)
  padded = Pattern(key_segments=jnp.asarray(SEGMENTS[:, 60:180]))
  found = errors(partitioner, padded, S=120, with_bias=False)
  print(json.dumps({"mesh": mesh, "pattern": "cross-attention", "errors": found}), flush=True)
  print(json.dumps(held(Partitioner(make_mesh({"sequence": 8})), 2048)), flush=True)


if __name__ == "__main__":
  main()
