"""Learning rates that follow from those of a base model: see t5x_style.models.transfer."""

from typing import Any

import jax
import optax

from t5x_style.errors import UserError
from t5x_style.models import TransformerConfig
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.models.transfer import path_names, transferred_scale, transfers
from t5x_style.training.optimizers import Described, is_orthogonalized


def with_transferred_rates(
  optimizer: optax.GradientTransformation, config: TransformerConfig
) -> optax.GradientTransformation:
  """Returns an optimizer whose rates serve the base model and this one; at its size, `optimizer`.

  The state is that of `optimizer`. Weight decay stays rate * weight_decay * parameter for all
  parameters (Dey et al. 2025, table 1): multiplied by their factors, it would vanish with width.

  Raises:
    UserError: it is not known how large the optimizer's updates are, or which part is decay.
  """
  if not transfers(config):
    return optimizer
  updates_are = optimizer.updates_are if isinstance(optimizer, Described) else None
  if updates_are is None:
    raise UserError(
      "BASE_EMB_DIM, BASE_HEAD_DIM or BASE_LAYERS: how large the updates of this optimizer are is "
      "not known, so its rates cannot follow from the base model's. Take one of those in "
      "gin_configs/runs/optimizers/, or let yours return optimizers.Described."
    )
  if updates_are == "relative" and optimizer.hyperparameters["weight_decay"]:
    raise UserError(
      "BASE_EMB_DIM, BASE_HEAD_DIM or BASE_LAYERS with adafactor need adafactor.weight_decay = 0, "
      "as T5 has it, or adafactor.multiply_by_parameter_scale = False: decay is part of relative "
      "updates, and would be scaled with them."
    )
  factors = rate_factors(config, updates_are)

  def update(grads, state, params=None):
    seen = params
    if params is not None and updates_are != "relative":
      # Parameters are used for the decay only, whose factor is undone so.
      seen = jax.tree.map(lambda x, factor: x / factor, params, factors)
    updates, state = optimizer.update(grads, state, seen)
    return jax.tree.map(lambda x, factor: x * factor, updates, factors), state

  return optax.GradientTransformation(optimizer.init, update)


def rate_factors(config: TransformerConfig, updates_are: str) -> Any:
  """Returns the factor of the learning rate of each parameter, floats in the tree of parameters.

  Args:
    updates_are: as of optimizers.Described. An update that is relative to a parameter shrinks with
      the parameter's deviation by itself. An orthogonal one has to change a matrix in the
      proportion of the two spectral norms (Yang, Simon & Bernstein 2023, condition 1), and that of
      a random matrix is its deviation times the square root of its size.
  """

  def factor(path, leaf):
    scale = transferred_scale(config, path_names(path), leaf.shape)
    if updates_are == "relative":
      return scale.rate / scale.deviation
    if updates_are == "orthogonal" and is_orthogonalized(path, len(leaf.shape)):
      return scale.deviation
    return scale.rate

  return jax.tree_util.tree_map_with_path(factor, abstract_parameters(config))
