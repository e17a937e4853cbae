"""Operations with their own gradients, against JAX's gradients; what they keep for them."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import ops


def plain_norm(centred, epsilon, x, scale, bias):
  y = x.astype(jnp.float32)
  if centred:
    y = y - y.mean(-1, keepdims=True)
  y = y / jnp.sqrt((y * y).mean(-1, keepdims=True) + epsilon) * scale
  return y if bias is None else y + bias


def gradients(function, arguments, cotangent):
  return jax.tree.leaves(jax.vjp(function, *arguments)[1](cotangent))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_norms(centred, dtype, with_bias):
  rng = np.random.default_rng(0)
  # Far from zero, where a deviation computed in one pass loses most.
  x = jnp.asarray(3 + rng.normal(size=(2, 5, 64)), dtype)
  scale, bias = (jnp.asarray(rng.normal(size=64), jnp.float32) for _ in range(2))
  arguments = (x, scale, bias if with_bias else None)
  cotangent = jnp.asarray(rng.normal(size=x.shape), jnp.float32)

  def ours(*arguments):
    return ops.normalize(centred, 1e-6, *arguments)

  def plain(*arguments):
    return plain_norm(centred, 1e-6, *arguments)

  np.testing.assert_allclose(ours(*arguments), plain(*arguments), atol=2e-5)
  found, expected = (gradients(f, arguments, cotangent) for f in (ours, plain))
  assert [x.dtype for x in found] == [x.dtype for x in expected]
  for a, b in zip(found, expected, strict=True):
    a, b = (np.asarray(y, np.float32) for y in (a, b))
    rounding = 2**-8 if dtype == "bfloat16" and a.ndim == 3 else 1e-5
    np.testing.assert_allclose(a, b, atol=rounding * np.abs(b).max())


def test_variances_in_one_pass_far_from_zero():
  x = jnp.full((1, 768), 100.0, jnp.bfloat16).at[0, 5].set(100.5)
  ones = jnp.ones(768)
  found = ops.normalize(True, 1e-12, x, ones, None)
  np.testing.assert_allclose(found, plain_norm(True, 1e-12, x, ones, None), rtol=1e-3, atol=1e-3)


def kept(function, *arguments):
  """Returns (shape, dtype) of the arrays that a function keeps for its gradient."""
  _, pull = jax.vjp(function, *arguments)
  return sorted((x.shape, x.dtype.name) for x in jax.tree.leaves(pull) if x.ndim)


def test_norms_keep_what_they_were_given():
  x, scale = jnp.ones((2, 5, 64), jnp.bfloat16), jnp.ones(64)
  found = kept(lambda x, scale: ops.normalize(True, 1e-6, x, scale, None), x, scale)
  vectors = [((2, 5, 1), "float32")] * 2  # the mean, and one over the deviation
  assert found == sorted([*vectors, ((2, 5, 64), "bfloat16"), ((64,), "float32")])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_exact_gelu(dtype):
  x = np.asarray(jnp.linspace(-10, 10, 4001).astype(dtype), np.float64)
  share = np.array([0.5 * math.erfc(-one / math.sqrt(2)) for one in x])
  slope = share + x * np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
  gelu = ops.ACTIVATIONS["gelu_exact"]
  found, pull = jax.vjp(gelu, jnp.asarray(x, dtype))
  rounding = {"float32": 1e-6, "bfloat16": 2**-8}[dtype]
  assert found.dtype == dtype
  np.testing.assert_allclose(np.asarray(found, np.float64), x * share, rounding, 1e-6)
  (by_x,) = pull(jnp.ones_like(found))
  np.testing.assert_allclose(np.asarray(by_x, np.float64), slope, rounding, 1e-6)


@pytest.mark.parametrize("name", ops.ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_activation_keeps_shape_and_dtype_and_has_a_finite_gradient(name, dtype):
  """A result in float32 would double what a step in bfloat16 holds."""
  x = jnp.asarray([[-3e4, -1.0, -0.0, 0.0], [1e-30, 1.0, 50.0, 3e4]], dtype)
  found, pull = jax.vjp(ops.ACTIVATIONS[name], x)
  assert (found.shape, found.dtype) == (x.shape, x.dtype)
  (by_x,) = pull(jnp.ones_like(found))
  assert np.isfinite(np.asarray(found, np.float32)).all()
  assert np.isfinite(np.asarray(by_x, np.float32)).all()


def test_squared_relu():
  x = jnp.asarray([-2.0, -0.5, 0.0, 0.5, 3.0])
  found, pull = jax.vjp(ops.ACTIVATIONS["squared_relu"], x)
  np.testing.assert_array_equal(found, [0, 0, 0, 0.25, 9])
  np.testing.assert_array_equal(pull(jnp.ones_like(x))[0], [0, 0, 0, 1, 6])


def test_activations_keep_their_gates_as_they_came():
  gates = [jnp.ones((2, 5, 64), jnp.bfloat16)] * 2
  bias = jnp.ones(64, jnp.bfloat16)
  found = kept(lambda *gates: ops.activate(("gelu", "linear"), gates, (bias, None), True), *gates)
  assert found == sorted([((2, 5, 64), "bfloat16")] * 2 + [((64,), "bfloat16")])


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("scanned", [True, False])
def test_activations_and_their_biases(on_platform, platform, scanned):
  on_platform(platform)
  rng = np.random.default_rng(0)
  a, b, cotangent = (jnp.asarray(rng.normal(size=(2, 5, 64)), jnp.float32) for _ in range(3))
  bias = jnp.asarray(rng.normal(size=64), jnp.float32)

  def ours(a, b, bias):
    return ops.activate(("silu", "linear"), (a, b), (bias, None), scanned)

  def plain(a, b, bias):
    return jax.nn.silu(a + bias) * b

  np.testing.assert_allclose(ours(a, b, bias), plain(a, b, bias), rtol=1e-6)
  found, expected = (gradients(f, (a, b, bias), cotangent) for f in (ours, plain))
  for x, y in zip(found, expected, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)
  program = jax.jit(lambda *x: gradients(ours, x, cotangent)).lower(a, b, bias).as_text()
  assert ("optimization_barrier" in program) == (platform == "gpu" and not scanned)


@pytest.mark.parametrize("length", [1, 7, 256, 300])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("size", [9, 40])  # A product with all tokens; sums within rows first.
def test_tables_on_gpus(on_platform, length, rows, size):
  on_platform("gpu")
  rng = np.random.default_rng(0)
  table = jnp.asarray(rng.normal(size=(size, 4)), jnp.float32)
  ids = jnp.asarray(rng.integers(0, size, (rows, length)))
  cotangent = jnp.asarray(rng.normal(size=(rows, length, 4)), jnp.float32)
  out, pull = jax.vjp(lambda table: ops.look_up(table, ids), table)
  np.testing.assert_array_equal(out, table[ids])
  expected = np.zeros((size, 4))
  np.add.at(expected, np.asarray(ids), np.asarray(cotangent, np.float64))
  np.testing.assert_allclose(pull(cotangent)[0], expected, atol=1e-4)


def test_tables_on_gpus_send_only_sums_of_their_columns(on_eight_devices):
  """Under fsdp each device sums its own columns, over all rows of its part of the data."""
  program = Path(__file__).with_name("table_program.py")
  lines = [json.loads(line) for line in on_eight_devices(program)]
  assert max(error for error, _ in lines) < 2e-6  # of the largest
  # Apart from ids: on data 2 x fsdp 4, fsdp 8 and data 8, for tables of 64 rows and of 2.
  floats = [[one for one in sent if one[0].startswith("f")] for _, sent in lines]
  assert floats == [
    sent
    for rows in (64, 2)
    for sent in (
      [["f32", f"{rows},8", "all-reduce"]],
      [],
      [["f32", f"{rows},32", "all-reduce"]],
    )
  ]


@pytest.mark.parametrize("size", [2, 40])
def test_tables_on_gpus_sum_in_float32(on_platform, size):
  on_platform("gpu")
  ids, table = jnp.zeros((4, 512), jnp.int32), jnp.zeros((size, 3), jnp.bfloat16)
  _, pull = jax.vjp(lambda table: ops.look_up(table, ids), table)
  # 2048 ones: a sum in bfloat16 would stay at 256, because 256 + 1 rounds to 256.
  np.testing.assert_array_equal(
    pull(jnp.ones((4, 512, 3), jnp.bfloat16))[0].astype(jnp.float32),
    [[2048.0] * 3] + [[0.0] * 3] * (size - 1),
  )


def test_relative_biases():
  rng = np.random.default_rng(0)
  table = jnp.asarray(rng.normal(size=(3, 8)), jnp.float32)
  bucket = jnp.asarray(rng.integers(0, 8, (40, 50)))
  cotangent = jnp.asarray(rng.normal(size=(3, 40, 50)), jnp.float32)
  out, pull = jax.vjp(lambda table: ops.look_up_biases(table, bucket), table)
  np.testing.assert_array_equal(out, table[:, bucket])
  expected = jax.vjp(lambda table: table[:, bucket], table)[1](cotangent)[0]
  np.testing.assert_allclose(pull(cotangent)[0], expected, atol=1e-4)


def test_the_gradient_of_a_bias_is_the_sum_over_rows():
  """CPUs compute the sum as a product with ones."""
  rng = np.random.default_rng(0)
  logits, weights = rng.standard_normal((2, 3, 2, 4, 5), np.float32)
  bias = jnp.zeros((1, 2, 4, 5))
  grads = jax.jit(jax.grad(lambda *x: (weights * ops.add_to_rows(*x)).sum(), (0, 1)))(logits, bias)
  np.testing.assert_array_equal(grads[0], weights)
  np.testing.assert_allclose(grads[1], weights.sum(0, keepdims=True), rtol=1e-6, atol=1e-6)
