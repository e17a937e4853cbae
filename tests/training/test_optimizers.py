"""Optimizers: stacks of layers, kernels as matrices, parameters without decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5x_style.training import optimizers, schedules


def tree(*leading):
  """Returns kernels of one layer, or of a stack of `leading` layers, with vectors and a table."""
  keys = iter(jax.random.split(jax.random.key(3), 8))
  normal = lambda *shape: jax.random.normal(next(keys), (*leading, *shape))
  block = {
    "query": {"kernel": normal(256, 4, 32)},
    "out": {"kernel": normal(4, 32, 256)},
    "norm": {"scale": normal(256)},
  }
  return {"encoder": {"layers" if leading else "layers_0": block}}


def steps(optimizer, params, count=3):
  @jax.jit
  def step(i, params, state):
    grads = jax.tree.map(lambda x: jnp.sin(x * (i + 1)), params)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  for i in range(count):
    params, state = step(i, params, state)
  return params


def test_adafactor_treats_each_layer_of_a_stack_as_its_own():
  """A scanned stack of three layers gets the same updates as three unrolled layers."""
  make = lambda: optimizers.adafactor(schedules.constant(0.01))
  stacked = tree(3)
  moved = steps(make(), stacked)["encoder"]["layers"]
  for i in range(3):
    layer = jax.tree.map(lambda x, i=i: x[i], stacked["encoder"]["layers"])
    single = steps(make(), {"encoder": {"layers_0": layer}})["encoder"]["layers_0"]
    jax.tree.map(
      lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=2e-5, atol=1e-6), moved, single
    )


def test_adafactor_factors_attention_kernels_as_matrices():
  state = optimizers.adafactor(schedules.constant(0.01)).init(tree())
  numbers = sum(x.size for x in jax.tree.leaves(state))
  kernels = 2 * 256 * 4 * 32
  assert numbers < kernels / 20


def test_decay_spares_norms_biases_and_position_biases():
  params = {
    "token_embed": {"embedding": jnp.ones(1)},
    "decoder": {
      "relative_bias": {"embedding": jnp.ones(1)},
      "layers": {"mlp": {"wi": {"kernel": jnp.ones(1), "bias": jnp.ones(1)}}},
      "final_norm": {"scale": jnp.ones(1)},
    },
  }
  mask = optimizers.decayed(params)
  assert mask == {
    "token_embed": {"embedding": True},
    "decoder": {
      "relative_bias": {"embedding": False},
      "layers": {"mlp": {"wi": {"kernel": True, "bias": False}}},
      "final_norm": {"scale": False},
    },
  }


@pytest.mark.parametrize(
  "make", [optimizers.adafactor, optimizers.adamw, optimizers.lion, optimizers.muon]
)
def test_weight_decay_takes_the_same_share_of_kernels_only(make):
  """Every optimizer decays kernels by the learning rate times weight_decay."""
  params = tree()
  optimizer = make(schedules.constant(0.1), weight_decay=0.5)
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  block, change = params["encoder"]["layers_0"], updates["encoder"]["layers_0"]
  np.testing.assert_allclose(
    change["out"]["kernel"], -0.1 * 0.5 * block["out"]["kernel"], rtol=1e-4, atol=1e-6
  )
  np.testing.assert_array_equal(change["norm"]["scale"], 0)


def test_muon_orthogonalises_kernels():
  """The update of a block's kernel, as a matrix, has nearly equal singular values."""
  params = tree()
  optimizer = optimizers.muon(schedules.constant(1.0), weight_decay=0.0)
  updates, _ = optimizer.update(params, optimizer.init(params), params)
  matrix = np.asarray(updates["encoder"]["layers_0"]["query"]["kernel"]).reshape(256, 128)
  values = np.linalg.svd(matrix, compute_uv=False)
  assert values.max() / values.min() < 2
