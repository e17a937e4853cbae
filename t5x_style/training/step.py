"""One pure training step, and the step of a prepared run compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_style.models import Batch
from t5x_style.training import guard
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
  *,
  spike_sigmas: float | None = None,
  max_skipped_steps: int = 5,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """Returns the pure function (state, batch) -> (state, metrics), to be jitted.

  A step that the guard skips changes neither parameters nor the optimizer's state, which holds the
  place in the schedule; it is counted in state.step, because its batch has been read.

  Args:
    spike_sigmas, max_skipped_steps: as in TrainConfig.
  """

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
    grad_norm = optax.global_norm(grads)
    judged, update, verdict = guard.judge(
      state.guard,
      sums.loss / jnp.maximum(sums.weight, 1e-9),
      grad_norm,
      spike_sigmas=spike_sigmas,
      patience=max_skipped_steps,
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    params, opt_state = jax.tree.map(
      lambda new, old: jnp.where(update, new, old),
      (params, opt_state),
      (state.params, state.opt_state),
    )
    made = state.step - state.guard.skipped  # updates before this one
    learning_rate = jnp.asarray(schedule(made), jnp.float32)
    metrics = Metrics(sums, grad_norm, learning_rate, update, verdict, judged)
    return TrainState(state.step + 1, params, opt_state, state.rng, judged), metrics

  return train_step


def compile_step(prepared: Prepared) -> jax.stages.Compiled:
  """Compiles the training step for the shapes of a run; it reuses the memory of the old state."""
  config = prepared.config
  step = make_train_step(
    prepared.loss,
    prepared.optimizer,
    config.schedule,
    config.num_microbatches,
    spike_sigmas=config.spike_sigmas,
    max_skipped_steps=config.max_skipped_steps,
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

  Args:
    function: takes the number of a part, int32 [], and the part; returns a tree of arrays.
    batch: {feature: [B, ...]}; `count` divides B, and a part has B / count rows.
  """

  def one(total, numbered):
    return jax.tree.map(jnp.add, total, function(*numbered)), None

  parts = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
  numbered = (jnp.arange(count), parts)
  shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], numbered))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(one, zeros, numbered)[0]
