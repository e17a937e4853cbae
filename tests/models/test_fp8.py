"""Products in 8 bits are near those in float32 at any scale; a model learns as in bfloat16."""

import functools
import types
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5x_style.models import TransformerConfig, fp8


def error(found, expected):
  found, expected = (np.asarray(x, np.float64) for x in (found, expected))
  return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shape", [(96,), (4, 24)])
def test_near_float32(scale, shape):
  rng = np.random.default_rng(0)
  x = jnp.asarray(scale * rng.normal(size=(*shape, 256)), jnp.bfloat16)
  kernel = jnp.asarray(rng.normal(size=(256, 128)) / 16, jnp.bfloat16)
  cotangent = jnp.asarray(rng.normal(size=(*shape, 128)) / scale, jnp.bfloat16)
  found = jax.vjp(fp8.project, x, kernel)
  exact = jax.vjp(jnp.matmul, x.astype(jnp.float32), kernel.astype(jnp.float32))
  gradients = found[1](cotangent), exact[1](cotangent.astype(jnp.float32))
  assert [y.dtype for y in (found[0], *gradients[0])] == [jnp.bfloat16] * 3
  # 3 and 2 bits after the leading one, rounded: relative errors of at most 1/16 and 1/8, about a
  # third of that on average. Less than a hundredth would mean that these are not 8 bits.
  assert 0.01 < error(found[0], exact[0]) < 0.05
  for a, b in zip(*gradients, strict=True):
    assert 0.01 < error(a, b) < 0.08


def test_zeros():
  out, pull = jax.vjp(fp8.project, jnp.zeros((4, 8), jnp.bfloat16), jnp.ones((8, 2), jnp.bfloat16))
  assert (out == 0).all()
  assert all((x == 0).all() for x in pull(jnp.zeros((4, 2), jnp.bfloat16)))


def losses(model, params, steps):
  """Returns the losses of a model that learns to continue x -> 5 x + 3 modulo 61."""
  optimizer = optax.adam(3e-3)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state, start):
    rows = [start]
    for _ in range(16):
      rows.append((5 * rows[-1] + 3) % 61)
    tokens = jnp.stack(rows, axis=1)

    def loss(params):
      batch = {"decoder_input_tokens": tokens[:, :-1]}
      logits = model.apply({"params": params}, batch).logits()
      return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    value, gradient = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, value

  params, state = jax.tree.map(jnp.copy, params), optimizer.init(params)
  rng, found = np.random.default_rng(0), []
  for _ in range(steps):
    params, state, value = step(params, state, jnp.asarray(rng.integers(0, 61, 16)))
    found.append(float(value))
  return found


@pytest.mark.slow
def test_a_model_learns_as_in_bfloat16(build_family):
  plain, params, _ = build_family("llama", dtype="bfloat16")
  in_8_bits, *_ = build_family("llama", dtype="bfloat16", fp8=True)
  params = nn.meta.unbox(params)
  expected, found = losses(plain, params, 60), losses(in_8_bits, params, 60)
  assert found != expected
  assert expected[-1] < 0.5 * expected[0]
  np.testing.assert_allclose(found[0], expected[0], rtol=0.01)
  np.testing.assert_allclose(np.mean(found[-10:]), np.mean(expected[-10:]), rtol=0.05)


def test_float32_is_refused():
  with pytest.raises(ValueError, match=r"FP8 = True with DTYPE = 'float32'.*DTYPE = \"bfloat16\""):
    TransformerConfig(8, 4, 1, 4, 4, num_decoder_layers=1, fp8=True)


@pytest.mark.parametrize(
  ("capability", "multiplies"), [(None, False), ("8.0", False), ("8.9", True), ("10.0", True)]
)
def test_a_device_that_does_not_multiply_in_8_bits_is_named(capability, multiplies):
  device = types.SimpleNamespace(device_kind="TPU v5e")
  if capability:
    device = types.SimpleNamespace(device_kind="NVIDIA X", compute_capability=capability)
  with warnings.catch_warnings(record=True) as found:
    fp8.warn_if_emulated(device)
  messages = [str(each.message) for each in found]
  expected = f"FP8 = True: {device.device_kind} does not multiply in 8 bits; results are rounded"
  assert [message[: len(expected)] for message in messages] == ([] if multiplies else [expected])
