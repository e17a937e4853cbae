"""The state of training: one pytree, whose arrays are sharded from the start."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from t5x_style.models import Transformer, TransformerConfig
from t5x_style.models.parameter_shapes import abstract_parameters, boxed_parameters
from t5x_style.models.transfer import with_transferred_scale
from t5x_style.partitioning import Partitioner, total_bytes
from t5x_style.training.dataset import FeatureShapes
from t5x_style.training.guard import Guard


class TrainState(flax.struct.PyTreeNode):
  """Everything that a step changes, and its random key. The place in the data is saved apart."""

  step: jax.Array  # int32 scalar, steps taken, with those that the guard skipped
  params: Any
  opt_state: Any
  rng: jax.Array  # uint32 [2]; the rng of a step is folded from it and the step, never advanced
  guard: Guard


class StatePlan(NamedTuple):
  """The state of a run before any of its arrays exists."""

  init: Callable[[int], TrainState]  # seed -> a new state, each part made where it belongs
  abstract: TrainState  # shapes, dtypes and shardings


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
  """Returns the leaves of a tree by their path, such as "decoder/final_norm/scale"."""
  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def state_bytes(config: TransformerConfig, optimizer: optax.GradientTransformation) -> int:
  """Returns the bytes of parameters, gradients and optimizer state on all devices together."""
  params = abstract_parameters(config)
  opt_state = jax.eval_shape(optimizer.init, params)
  return total_bytes((params, params, opt_state))


def plan_state(
  model: Transformer,
  optimizer: optax.GradientTransformation,
  partitioner: Partitioner,
  features: FeatureShapes,
) -> StatePlan:
  """Plans the state of a run without making any array.

  Args:
    features: of a global batch.
  """

  def begin(params, rng):
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, params, optimizer.init(params), rng, Guard.new())

  def init(seed):
    # Parameters do not depend on the size of a batch: one row keeps tracing and memory small.
    row = {name: jnp.zeros((1, *x.shape[1:]), x.dtype) for name, x in features.items()}
    init_rng, run_rng = jax.random.split(jax.random.PRNGKey(seed))
    params = nn.meta.unbox(model.init(init_rng, row)["params"])
    return begin(with_transferred_scale(model.config, params), run_rng)

  def init_on_devices(seed: int) -> TrainState:
    with partitioner.context():
      return jax.jit(init, out_shardings=shardings)(jnp.uint32(seed))

  boxed = boxed_parameters(model.config)
  rng = jax.eval_shape(jax.random.PRNGKey, jax.ShapeDtypeStruct((), jnp.uint32))
  shapes = jax.eval_shape(begin, nn.meta.unbox(boxed), rng)
  shardings = _shardings(partitioner, boxed, shapes)
  abstract = jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    shapes,
    shardings,
  )
  return StatePlan(init_on_devices, abstract)


def _shardings(partitioner: Partitioner, boxed: Any, shapes: TrainState) -> TrainState:
  params, replicated = partitioner.params(boxed), partitioner.replicated()
  return TrainState(
    step=replicated,
    params=params,
    opt_state=partitioner.like_params(shapes.opt_state, shapes.params, params),
    rng=replicated,
    guard=jax.tree.map(lambda _: replicated, shapes.guard),
  )
