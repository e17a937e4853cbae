"""Models agree on all kernels, and no document of a packed row influences another."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.attention_kernels import cpu_blocks, select, short_rows, splash

LENGTH, SPLIT = 12, 7


@pytest.fixture
def on(monkeypatch, on_platform):
  """Makes models run a kernel of other devices: it is interpreted, or XLA computes its call."""

  def patch(kernel):
    on_platform({"splash": "tpu", "short": "tpu", "cudnn": "gpu"}.get(kernel, "cpu"))
    monkeypatch.setattr(select, "_SHORT", LENGTH if kernel == "short" else 0)
    monkeypatch.setattr(cpu_blocks, "pays", lambda spec: kernel == "blocked")
    for name, value in {"_MOST_UNROLLED": 0, "_BLOCK_BYTES": 1, "_FEWEST_QUERIES": 4}.items():
      monkeypatch.setattr(cpu_blocks, name, value)  # Loops, over heads, in parts.
    for module in (short_rows, splash):
      monkeypatch.setattr(module, "attend", functools.partial(module.attend, interpret=True))
    original = jax.nn.dot_product_attention
    by_xla = lambda *args, **kwargs: original(*args, **{**kwargs, "implementation": "xla"})
    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)

  return patch


def packed(config):
  """Returns a batch of one row with two documents that share no token: 2 to 20, 21 to 39."""
  tokens = jnp.array([[*range(2, 2 + SPLIT), *range(21, 21 + LENGTH - SPLIT)]])
  segments = jnp.array([[1] * SPLIT + [2] * (LENGTH - SPLIT)])
  positions = jnp.array([[*range(SPLIT), *range(LENGTH - SPLIT)]])
  batch = {}
  for side in ("encoder", "decoder"):
    if getattr(config, f"num_{side}_layers"):
      batch |= {f"{side}_input_tokens": tokens, f"{side}_segment_ids": segments}
      batch[f"{side}_positions"] = positions
  return batch


def run(model, params, batch):
  """Returns hidden states, and the embedding table's gradient of the second document's sum."""
  weights = jax.random.normal(jax.random.key(2), (model.config.emb_dim,))

  @jax.jit
  def program(table):
    def loss(table):
      changed = {**params, "token_embed": {"embedding": table}}
      hidden = model.apply({"params": changed}, batch).hidden.astype(jnp.float32)
      return (hidden * weights)[:, SPLIT:].sum(), hidden

    return jax.grad(loss, has_aux=True)(table)

  gradient, hidden = program(params["token_embed"]["embedding"])
  return np.asarray(hidden, np.float32), np.asarray(gradient)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["splash", "short", "blocked", "cudnn"])
@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
def test_models_on_other_kernels(build_family, on, kernel, family):
  # cuDNN's kernel is chosen only in bfloat16.
  changes = {"cudnn": {"dtype": "bfloat16"}, "blocked": {"remat": "dots"}}.get(kernel, {})
  model, params, _ = build_family(family, **changes)
  params, batch = nn.meta.unbox(params), packed(model.config)
  on("xla")
  expected_hidden, expected_gradient = run(model, params, batch)
  on(kernel)
  hidden, gradient = run(model, params, batch)
  atol = 0.05 if kernel == "cudnn" else 1e-5
  np.testing.assert_allclose(hidden, expected_hidden, atol=atol * np.abs(expected_hidden).max())
  np.testing.assert_allclose(
    gradient, expected_gradient, atol=atol * np.abs(expected_gradient).max()
  )
  for found in (gradient, expected_gradient):
    assert (found[2 : 2 + SPLIT] == 0).all()
    assert (np.abs(found[21 : 21 + LENGTH - SPLIT]).sum(-1) > 0).all()
  if kernel != "cudnn":
    assert (gradient != expected_gradient).any()  # Another kernel computed it.
