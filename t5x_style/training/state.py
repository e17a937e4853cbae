"""The one pytree that training carries from step to step, made sharded from the start."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from t5x_style.models import Transformer
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.partitioning import Partitioner
from t5x_style.training.dataset import FeatureShapes


class TrainState(flax.struct.PyTreeNode):
  """Everything a run is, apart from its place in the data."""

  step: jax.Array  # int32 scalar, steps taken
  params: Any
  opt_state: Any
  rng: jax.Array  # uint32 [2]; the rng of a step is folded from it and the step, never advanced


def state_bytes(model: Transformer, optimizer: optax.GradientTransformation) -> int:
  """Bytes of parameters, their gradients and the optimizer's state, all devices together."""
  params = abstract_parameters(model.config)
  opt_state = jax.eval_shape(optimizer.init, params)
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((params, params, opt_state)))


def make_state(
  model: Transformer,
  optimizer: optax.GradientTransformation,
  partitioner: Partitioner,
  batch: FeatureShapes,
):
  """Plans the state of a run without making any array.

  Args:
    batch: shapes and dtypes of the features of a global batch.

  Returns:
    init(seed) -> TrainState, compiled to make each part where it belongs;
    the TrainState of abstract arrays; the TrainState of shardings.
  """
  # Parameters do not depend on the size of a batch: a sliver keeps tracing and memory small.
  sliver = {name: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for name, x in batch.items()}

  def init_boxed(rng):
    zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in sliver.items()}
    return model.init(rng, zeros)["params"]

  def begin(params, rng):
    step = jnp.zeros((), jnp.int32)
    return TrainState(step=step, params=params, opt_state=optimizer.init(params), rng=rng)

  def init(seed):
    rng = jax.random.PRNGKey(seed)
    init_rng, run_rng = jax.random.split(rng)
    return begin(nn.meta.unbox(init_boxed(init_rng)), run_rng)

  rng = jax.eval_shape(jax.random.PRNGKey, jax.ShapeDtypeStruct((), jnp.uint32))
  boxed = jax.eval_shape(init_boxed, rng)
  shapes = jax.eval_shape(begin, nn.meta.unbox(boxed), rng)
  params = partitioner.params(boxed)
  replicated = partitioner.replicated()
  shardings = TrainState(
    step=replicated,
    params=params,
    opt_state=partitioner.like_params(shapes.opt_state, shapes.params, params),
    rng=replicated,
  )

  def jitted_init(seed: int) -> TrainState:
    with partitioner.context():
      return jax.jit(init, out_shardings=shardings)(jnp.uint32(seed))

  abstract = jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    shapes,
    shardings,
  )
  return jitted_init, abstract, shardings
