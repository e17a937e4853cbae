"""A kernel on meshes of eight simulated devices, against float64. The argument is its name.

Prints, for each mesh, the largest error of the output and of each gradient as a fraction of its
largest entry. The output itself is compared, not its sum: terms of both signs cancel there.
"""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.models.attention import attend
from t5x_style.models.attention_kernels import cpu_blocks, short_rows
from t5x_style.models.attention_kernels.pattern import KernelChoice, Pattern
from t5x_style.models.attention_kernels.select import attention_inputs
from t5x_style.partitioning import Partitioner, make_mesh
from tests.models.attention_kernels.conftest import reference

B, L, N, K, H = 8, 40, 4, 1, 64  # One key head for two devices.
SCALE = 0.1
short_rows.attend = functools.partial(short_rows.attend, interpret=True)
short_rows._MOST_QUERIES = 32  # Two blocks; the second one is padded.
cpu_blocks._FEWEST_QUERIES, cpu_blocks._MOST_UNROLLED = 16, 0  # Parts, and loops.
rng = np.random.default_rng(0)
arrays = tuple(  # query, key, value, and the output's cotangent
  rng.normal(size=(B, L, heads, H)).astype(np.float32) for heads in (N, K, K, N)
)
bias = rng.normal(size=(1, N, L, L)).astype(np.float32)
segments = np.sort(rng.integers(0, 3, (B, L)))[:, ::-1].copy()
NAMES = ("batch", "length", None, None)


def run(kernel, partitioner):
  """Returns the output and the gradients of query, key, value and bias."""

  def compute(query, key, value, bias, segments, cotangent):
    pattern = Pattern(segments, segments, causal=True)

    def output(query, key, value, bias):
      shared = attention_inputs(pattern, L, L, bias, KernelChoice(kernel))
      return attend(query, key, value, shared, scale=SCALE)

    out, pull = jax.vjp(output, query, key, value, bias)
    return (out, *pull(cotangent))

  placed = [jax.device_put(x, partitioner.sharding(NAMES, x.shape)) for x in arrays]
  with partitioner.context():
    return jax.jit(compute)(*placed[:3], jnp.asarray(bias), jnp.asarray(segments), placed[3])


mask = np.asarray(Pattern(segments, segments, causal=True).mask(L, L))
expected = vars(reference(*arrays, mask, bias, SCALE, None)).values()
for mesh in ({"data": 8}, {"fsdp": 4, "tensor": 2}, {"data": 4, "tensor": 2}):
  got = run(sys.argv[1], Partitioner(make_mesh(mesh)))
  errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(got, expected, strict=True)]
  print(json.dumps([float(x) for x in errors]))
