"""Kernels compile for absent TPUs and hold no logits."""

import jax
import jax.numpy as jnp
import pytest

from t5x_style.models.attention import attend
from t5x_style.models.attention_kernels.pattern import AttentionSpec, Pattern
from t5x_style.models.attention_kernels.select import (
  BIAS_BY_DISTANCE,
  attention_inputs,
  choose_kernel,
)
from t5x_style.partitioning import Partitioner, make_mesh
from t5x_style.planning import topologies

pytestmark = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")


def compiled(topology, mesh_shape, sizes, kernel, bias=False, key_length=None, **pattern):
  """Returns the compiled loss and gradients of packed rows; sizes are B, L, N, K, H."""
  devices = topologies.devices(topology)
  B, L, N, K, H = sizes
  S = key_length or L
  partitioner = Partitioner(make_mesh(mesh_shape, devices if mesh_shape else devices[:1]))

  def array(shape, names, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=partitioner.sharding(names, shape))

  query = array((B, L, N, H), ("batch", "length", "heads", "kv"))
  key = array((B, S, K, H), ("batch", "length", "kv_heads", "kv"))
  biases = None
  if bias and kernel in BIAS_BY_DISTANCE:
    biases = array((N, 257), ("heads", None), jnp.float32)
  elif bias:
    biases = array((1, N, L, S), (None, "heads", None, None))
  queries, keys = (array((B, n), ("batch", "length"), jnp.int32) for n in (L, S))

  def loss(query, key, value, bias, queries, keys):
    prefix = queries if pattern.get("prefix") else None
    who = Pattern(queries, keys, **{"causal": True, **pattern, "prefix": prefix})
    case = AttentionSpec(query.shape, key.shape, "bfloat16", who, bias is not None)
    # Where rows are split, splash attention is computed only if it is requested.
    requested = "splash" if kernel == "splash" and "sequence" in mesh_shape else "auto"
    chosen = choose_kernel(requested, "it", case)
    assert chosen.name == kernel
    out = attend(query, key, value, attention_inputs(who, L, S, bias, chosen), scale=0.1)
    return out.astype(jnp.float32).sum()

  with partitioner.context():
    gradient = jax.jit(jax.grad(loss, (0, 1, 2, 3) if bias else (0, 1, 2)))
    return gradient.lower(query, key, key, biases, queries, keys).compile()


@pytest.mark.parametrize(
  ("kernel", "L", "bias"), [("splash", 1024, False), ("short", 512, True), ("long", 4096, True)]
)
def test_no_logits_are_held(kernel, L, bias):
  sizes = B, L, N, _, _ = (2, L, 4, 2 if kernel == "splash" else 4, 64)
  program = compiled("v5e:2x2", {}, sizes, kernel, bias)
  assert "tpu_custom_call" in program.as_text()
  # The logits are B N L^2 numbers; the program holds only a few arrays of the queries' size.
  held = program.memory_analysis().temp_size_in_bytes
  assert held < 0.25 * 2 * B * N * L**2, held


@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
@pytest.mark.parametrize(
  "sizes",
  [
    (4, 114, 12, 12, 64),  # T5 base's decoder
    pytest.param((4, 1024, 16, 16, 64), marks=pytest.mark.slow),
    pytest.param((2, 2048, 16, 16, 64), marks=pytest.mark.slow),
    pytest.param((2, 512, 16, 16, 256), marks=pytest.mark.slow),  # UL2 20B
    pytest.param((2, 1024, 4, 4, 256), marks=pytest.mark.slow),
    pytest.param((2, 512, 3, 3, 64), marks=pytest.mark.slow),  # They do not fill whole lanes.
  ],
)
def test_short_rows_fit_on_every_chip(topology, sizes):
  assert "tpu_custom_call" in compiled(topology, {}, sizes, "short", bias=True).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
@pytest.mark.parametrize("options", [{"prefix": True, "window": 300}, {"causal": False}])
def test_long_rows_with_a_bias_on_every_chip(topology, options):
  program = compiled(topology, {}, (1, 3000, 4, 4, 64), "long", bias=True, **options)
  assert "tpu_custom_call" in program.as_text()


@pytest.mark.slow
@pytest.mark.parametrize(
  ("topology", "mesh", "sizes", "kernel", "options"),
  [
    # Rows, heads and queries split; one key head for two devices; a length that is padded.
    ("v5e:2x4", {"fsdp": 2, "tensor": 2, "sequence": 2}, (4, 1024, 8, 1, 128), "splash", {}),
    ("v5e:2x4", {"sequence": 8}, (2, 2048, 8, 8, 256), "splash", {"causal": False}),
    ("v5p:2x2x1", {"tensor": 4}, (2, 1024, 8, 2, 128), "splash", {"prefix": True, "window": 256}),
    ("v5e:2x4", {"fsdp": 2, "tensor": 2, "sequence": 2}, (4, 1024, 8, 1, 128), "ring", {}),
    ("v5e:2x4", {"sequence": 8}, (2, 4096, 8, 8, 64), "ring", {"bias": True, "causal": False}),
    ("v5p:2x2x1", {"sequence": 4}, (1, 4096, 8, 2, 128), "ring", {"window": 512}),
    ("v5e:2x4", {"data": 4, "tensor": 2}, (4, 4096, 12, 12, 64), "long", {"bias": True}),
    ("v5e:2x4", {"data": 8}, (8, 114, 6, 6, 64), "short", {"causal": False, "key_length": 512}),
    ("v5e:2x4", {"fsdp": 4, "tensor": 2}, (8, 512, 12, 12, 64), "short", {"bias": True}),
    ("v5p:2x2x1", {"tensor": 4}, (2, 512, 8, 2, 128), "short", {"prefix": True, "window": 256}),
  ],
)
def test_meshes(topology, mesh, sizes, kernel, options):
  assert "tpu_custom_call" in compiled(topology, mesh, sizes, kernel, **options).as_text()
