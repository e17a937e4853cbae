"""Splash attention compiled for TPUs that are not here: that it compiles, and what it holds."""

import jax
import jax.numpy as jnp
import pytest

from t5x_style.models.attention import Pattern, Scope, attend
from t5x_style.models.attention_kernels.choice import Case, choose
from t5x_style.partitioning import Partitioner, make_mesh, topologies

pytestmark = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")


def compiled(topology, mesh_shape, sizes, causal=True, prefix=False, key_length=None, window=None):
  """The program of loss and gradients of packed rows; sizes are B, L, N, K, H."""
  devices = topologies.devices(topology)
  B, L, N, K, H = sizes
  S = key_length or L
  partitioner = Partitioner(make_mesh(mesh_shape, devices if mesh_shape else devices[:1]))

  def array(shape, names, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=partitioner.sharding(names, shape))

  query = array((B, L, N, H), ("batch", "length", "heads", "kv"))
  key = array((B, S, K, H), ("batch", "length", "kv_heads", "kv"))
  queries, keys = (array((B, n), ("batch", "length"), jnp.int32) for n in (L, S))

  def loss(query, key, value, queries, keys):
    pattern = Pattern(queries, keys, queries if prefix else None, causal=causal, window=window)
    kernel = choose("auto", "it", Case(query.shape, key.shape, "bfloat16", pattern))
    assert kernel.name == "splash"
    out = attend(query, key, value, Scope.of(pattern, L, S, None, kernel), scale=0.1)
    return out.astype(jnp.float32).sum()

  with partitioner.context():
    gradient = jax.jit(jax.grad(loss, (0, 1, 2)))
    return gradient.lower(query, key, key, queries, keys).compile()


def test_it_holds_no_logits():
  sizes = B, L, N, _, _ = (2, 1024, 4, 2, 64)
  program = compiled("v5e:2x2", {}, sizes)
  assert "tpu_custom_call" in program.as_text()
  # The logits alone are B N L^2 numbers; what is held is a few arrays of the queries' size.
  held = program.memory_analysis().temp_size_in_bytes
  assert held < 0.25 * 2 * B * N * L**2, held


@pytest.mark.slow
@pytest.mark.parametrize(
  ("topology", "mesh", "sizes", "options"),
  [
    # Rows, heads and queries split; one key head for two devices; a length that is padded.
    ("v5e:2x4", {"fsdp": 2, "tensor": 2, "sequence": 2}, (4, 1024, 8, 1, 128), {}),
    ("v5e:2x4", {"sequence": 8}, (2, 2048, 8, 8, 256), {"causal": False}),
    ("v5e:2x4", {"data": 8}, (8, 114, 6, 6, 64), {"causal": False, "key_length": 512}),
    ("v5p:2x2x1", {"tensor": 4}, (2, 1024, 8, 2, 128), {"prefix": True, "window": 256}),
  ],
)
def test_meshes(topology, mesh, sizes, options):
  assert "tpu_custom_call" in compiled(topology, mesh, sizes, **options).as_text()
