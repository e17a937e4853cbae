"""One pure training step, and the step of a prepared run compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_style.models import Batch
from t5x_style.training.loss import TrainingLoss
from t5x_style.training.metrics import Metrics
from t5x_style.training.schedules import Schedule
from t5x_style.training.setup import Prepared
from t5x_style.training.state import TrainState


def make_train_step(
  loss: TrainingLoss,
  optimizer: optax.GradientTransformation,
  schedule: Schedule,
  num_microbatches: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """Returns the pure function (state, batch) -> (state, metrics), to be jitted."""

  def gradients(params, batch, rng):
    scales = loss.scales(batch)
    differentiate = jax.grad(loss, has_aux=True)
    if num_microbatches == 1:
      return differentiate(params, batch, scales, rng)

    def one(number, part):
      return differentiate(params, part, scales, jax.random.fold_in(rng, number))

    return sum_over_microbatches(one, batch, num_microbatches)

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    rng = jax.random.fold_in(state.rng, state.step)
    grads, sums = gradients(state.params, batch, rng)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = Metrics(
      sums,
      grad_norm=optax.global_norm(grads),
      learning_rate=jnp.asarray(schedule(state.step), jnp.float32),
    )
    state = state.replace(
      step=state.step + 1, params=optax.apply_updates(state.params, updates), opt_state=opt_state
    )
    return state, metrics

  return train_step


def compile_step(prepared: Prepared) -> jax.stages.Compiled:
  """Compiles the training step for the shapes of a run; it reuses the memory of the old state."""
  config = prepared.config
  step = make_train_step(
    prepared.loss, prepared.optimizer, config.schedule, config.num_microbatches
  )
  jitted = jax.jit(
    step,
    donate_argnums=0,
    out_shardings=(prepared.shardings, prepared.partitioner.replicated()),
  )
  with prepared.partitioner.context():
    return jitted.lower(prepared.abstract, prepared.batch).compile()


def sum_over_microbatches(
  function: Callable[[jax.Array, Batch], Any], batch: Batch, count: int
) -> Any:
  """Returns the sum of function(number, part) over `count` equal parts of the rows, one by one.

  Row i goes to part i % count, so that every device keeps the rows it already holds.
  """

  def one(total, numbered):
    return jax.tree.map(jnp.add, total, function(*numbered)), None

  parts = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
  numbered = (jnp.arange(count), parts)
  shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], numbered))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(one, zeros, numbered)[0]
