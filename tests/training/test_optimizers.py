"""Optimizers: stacks of layers, kernels as matrices, parameters without decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5x_style.errors import UserError
from t5x_style.training import optimizers, schedules
from tests.shipped import OPTIMIZERS


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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_takes_the_same_share_of_kernels_only(name):
  """Every optimizer decays kernels by the learning rate times weight_decay."""
  params = tree()
  optimizer = getattr(optimizers, name)(schedules.constant(0.1), weight_decay=0.5)
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  block, change = params["encoder"]["layers_0"], updates["encoder"]["layers_0"]
  np.testing.assert_allclose(
    change["out"]["kernel"], -0.1 * 0.5 * block["out"]["kernel"], rtol=1e-4, atol=1e-6
  )
  np.testing.assert_array_equal(change["norm"]["scale"], 0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_as_large_as_declared(name):
  """BASE_EMB_DIM relies on it: see Updates."""
  optimizer = getattr(optimizers, name)(schedules.constant(0.1), weight_decay=0.0)

  @jax.jit
  def size(times_params, times_grads):
    """Returns the root mean square of a kernel's first update."""
    params = jax.tree.map(lambda x: times_params * x, tree())
    grads = jax.tree.map(lambda x: times_grads * jnp.sin(x), tree())
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return jnp.sqrt(jnp.square(updates["encoder"]["layers_0"]["out"]["kernel"]).mean())

  plain = float(size(1.0, 1.0))
  assert 0.1 < plain / 0.1 < 10, "an update is about as large as the rate"
  assert float(size(1.0, 100.0)) == pytest.approx(plain, rel=0.01)
  times = 10 if optimizer.updates_are == "relative" else 1
  assert float(size(10.0, 1.0)) == pytest.approx(times * plain, rel=0.01)


@pytest.mark.parametrize("given", [[], ["Absolute"]])
def test_an_optimizer_that_does_not_say_how_large_its_updates_are(given):
  with pytest.raises(UserError, match=r'Write Described\(optimizer, "absolute", b1=b1, ...\) if'):
    optimizers.Described(optax.sgd(0.1), *given, b1=0.9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_is_split_as_the_parameters_are(name):
  """What does not lie under a parameter's path is on every device as a whole."""
  params = tree(2)
  paths = [str(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
  state = jax.eval_shape(getattr(optimizers, name)(schedules.constant(0.1)).init, params)
  whole = sum(
    leaf.size
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    if not any(str(path).endswith(known[1:]) for known in paths)
  )
  assert whole < 10, "Partitioner.like_params finds no parameter for arrays of the state"


def test_muon_orthogonalises_kernels():
  """The update of a block's kernel, as a matrix, has nearly equal singular values."""
  params = tree()
  optimizer = optimizers.muon(schedules.constant(1.0), weight_decay=0.0)
  updates, _ = optimizer.update(params, optimizer.init(params), params)
  matrix = np.asarray(updates["encoder"]["layers_0"]["query"]["kernel"]).reshape(256, 128)
  values = np.linalg.svd(matrix, compute_uv=False)
  assert values.max() / values.min() < 2


def test_ademamix_follows_the_paper():
  """Pagliardini et al. 2024, section 3 and algorithm 1, in plain NumPy."""
  b1, b2, b3, alpha, warmup, rate = 0.8, 0.9, 0.99, 5.0, 3, 0.1
  optimizer = optimizers.ademamix(
    schedules.constant(rate), b1, b2, b3, alpha, slow_warmup_steps=warmup, weight_decay=0.5
  )
  x = np.array([1.0, -2.0, 3.0])
  params = {"mlp": {"kernel": jnp.asarray(x)}}
  state, fast, slow, second = optimizer.init(params), 0, 0, 0
  for t in range(1, 6):
    g = np.sin(t * x)
    updates, state = optimizer.update({"mlp": {"kernel": jnp.asarray(g)}}, state, params)
    share, first, last = min(t / warmup, 1), np.log(b1), np.log(b3)
    keep = np.exp(first * last / ((1 - share) * last + share * first))
    fast, second = b1 * fast + (1 - b1) * g, b2 * second + (1 - b2) * g**2
    slow = keep * slow + (1 - keep) * g
    top = fast / (1 - b1**t) + alpha * share * slow
    wanted = -rate * (top / (np.sqrt(second / (1 - b2**t)) + 1e-8) + 0.5 * x)
    np.testing.assert_allclose(updates["mlp"]["kernel"], wanted, rtol=2e-5)
  assert keep == pytest.approx(b3)
