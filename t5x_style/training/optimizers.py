"""Optimizers from optax for this project's parameters: decay masks, stacks, matrix views."""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from t5x_style.errors import UserError
from t5x_style.models.transfer import path_names
from t5x_style.setting_types import (
  DType,
  FractionBelowOne,
  NonNegativeFloat,
  OpenFraction,
  PositiveFloat,
  PositiveInt,
)
from t5x_style.training.schedules import Schedule

Optimizer = Callable[[Schedule], optax.GradientTransformation]

# How large an optimizer's updates are, without decay. "absolute": their entries are about as large
# as the rate. "relative": as the rate times the root mean square of the parameter. "orthogonal":
# those of the blocks' matrices are orthogonal, with such entries, and all others are absolute.
Updates = Literal["absolute", "relative", "orthogonal"]


class Described(optax.GradientTransformationExtraArgs):
  """An optimizer that knows its hyperparameters: a run that resumes shows which have changed."""

  hyperparameters: dict[str, Any]
  updates_are: Updates

  def __new__(
    cls,
    optimizer: optax.GradientTransformation,
    updates_are: Updates | None = None,
    **hyperparameters: Any,
  ):
    """Adds what is known of an optimizer to it.

    Args:
      optimizer: that of optax.
      updates_are: how large its updates are; rates follow from it where BASE_EMB_DIM is set.
      **hyperparameters: all arguments but the learning rate, as JSON values.

    Raises:
      UserError: updates_are is missing, as in code for earlier versions, or is not one of Updates.
    """
    if updates_are not in get_args(Updates):
      raise UserError(
        "optimizers.Described has to say how large the updates of an optimizer are. Write "
        'Described(optimizer, "absolute", b1=b1, ...) if their entries are about as large as the '
        'rate, as those of AdamW; "relative" if they are as the rate times the parameter, as those '
        'of Adafactor; "orthogonal" if they are orthogonal matrices, as those of Muon.'
      )
    self = super().__new__(cls, *optax.with_extra_args_support(optimizer))
    self.hyperparameters = hyperparameters
    self.updates_are = updates_are
    return self


def adafactor(
  learning_rate: Schedule,
  decay_rate: OpenFraction = 0.8,
  clipping_threshold: PositiveFloat = 1.0,
  weight_decay: NonNegativeFloat = 0.0,
  multiply_by_parameter_scale: bool = True,
  min_dim_size_to_factor: PositiveInt = 128,
) -> optax.GradientTransformation:
  """Returns Adafactor (Shazeer & Stern 2018) with T5's settings.

  Every kernel is treated as one matrix per layer, also in a scanned stack: [D, N, H] as [D, N * H].
  So factoring, clipping and parameter scale are those of T5's own two-dimensional kernels.

  As with the other optimizers, a step subtracts learning_rate * weight_decay * kernel. (optax's own
  weight_decay_rate of Adafactor is not multiplied by the learning rate.)

  Args:
    learning_rate: the schedule.
    decay_rate: the second moment of step t is averaged with the weight 1 - t^-decay_rate.
    clipping_threshold: updates with a larger root mean square are scaled down to it.
    weight_decay: share of a kernel that a step subtracts, times the learning rate.
    multiply_by_parameter_scale: whether the rate is relative to the size of each parameter.
    min_dim_size_to_factor: matrices whose sides have at least this many units keep row and column
      sums in place of the whole second moment.
  """

  def decay(count):
    return weight_decay * learning_rate(count)

  optimizer = per_layer_matrices(
    optax.adafactor(
      learning_rate,
      min_dim_size_to_factor=min_dim_size_to_factor,
      decay_rate=decay_rate,
      clipping_threshold=clipping_threshold,
      multiply_by_parameter_scale=multiply_by_parameter_scale,
      weight_decay_rate=decay if weight_decay else None,
      weight_decay_mask=decayed,
    )
  )
  return Described(
    optimizer,
    "relative" if multiply_by_parameter_scale else "absolute",
    decay_rate=decay_rate,
    clipping_threshold=clipping_threshold,
    weight_decay=weight_decay,
    multiply_by_parameter_scale=multiply_by_parameter_scale,
    min_dim_size_to_factor=min_dim_size_to_factor,
  )


def adamw(
  learning_rate: Schedule,
  b1: FractionBelowOne = 0.9,
  b2: FractionBelowOne = 0.95,
  eps: PositiveFloat = 1e-8,
  weight_decay: NonNegativeFloat = 0.1,
  mu_dtype: DType | None = None,
) -> optax.GradientTransformation:
  """Returns AdamW (Loshchilov & Hutter 2017).

  Args:
    learning_rate: the schedule.
    b1, b2: how much of the first and of the second moment a step keeps.
    eps: is added to the root of the second moment.
    weight_decay: share of a kernel that a step subtracts, times the learning rate.
    mu_dtype: of the first moment; "bfloat16" halves its memory, None is that of the parameters.
  """
  optimizer = optax.adamw(
    learning_rate, b1, b2, eps, mu_dtype=mu_dtype, weight_decay=weight_decay, mask=decayed
  )
  return Described(
    optimizer, "absolute", b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mu_dtype=mu_dtype
  )


def ademamix(
  learning_rate: Schedule,
  b1: FractionBelowOne = 0.9,
  b2: FractionBelowOne = 0.999,
  b3: OpenFraction = 0.9999,
  alpha: NonNegativeFloat = 8.0,
  slow_warmup_steps: PositiveInt = 10_000,
  eps: PositiveFloat = 1e-8,
  weight_decay: NonNegativeFloat = 0.1,
) -> optax.GradientTransformation:
  """Returns AdEMAMix (Pagliardini et al. 2024): AdamW with a second, slow first moment.

  It needs the memory of one moment more than AdamW. Apertus (Hernández-Cano et al. 2025) was
  trained with it.

  Args:
    learning_rate: the schedule.
    b1, b2: how much of the fast first and of the second moment a step keeps.
    b3: how much of the slow first moment a step keeps, at the end of its warm-up.
    alpha: the weight of the slow moment in an update, at the end of its warm-up; that of the fast
      one is 1.
    slow_warmup_steps: in this many steps alpha grows from 0, and the half-life of the slow moment
      from that of the fast one (section 3); the paper takes all steps of a run.
    eps: is added to the root of the second moment.
    weight_decay: share of a kernel that a step subtracts, times the learning rate.
  """

  def progress(count):
    return jnp.minimum((count + 1) / slow_warmup_steps, 1.0)

  def slow(count):
    # The half-life of a moment is -ln 2 / ln b: it grows by equal amounts.
    start, end = 1 / math.log(min(max(b1, 1e-6), b3)), 1 / math.log(b3)
    return jnp.exp(1 / (start + progress(count) * (end - start)))

  optimizer = optax.contrib.ademamix(
    learning_rate,
    b1,
    b2,
    slow,
    lambda count: alpha * progress(count),
    eps,
    weight_decay=weight_decay,
    mask=decayed,
  )
  return Described(
    optimizer,
    "absolute",
    b1=b1,
    b2=b2,
    b3=b3,
    alpha=alpha,
    slow_warmup_steps=slow_warmup_steps,
    eps=eps,
    weight_decay=weight_decay,
  )


def lion(
  learning_rate: Schedule,
  b1: FractionBelowOne = 0.9,
  b2: FractionBelowOne = 0.99,
  weight_decay: NonNegativeFloat = 1.0,
  mu_dtype: DType | None = None,
) -> optax.GradientTransformation:
  """Returns Lion (Chen 2023).

  Its rate should be 3 to 10 times smaller than AdamW's, and its weight decay 3 to 10 times larger.

  Args:
    learning_rate: the schedule.
    b1: how much of the moment counts in the update, whose sign is taken.
    b2: how much of the moment a step keeps.
    weight_decay: share of a kernel that a step subtracts, times the learning rate.
    mu_dtype: of the moment; "bfloat16" halves its memory, None is that of the parameters.
  """
  optimizer = optax.lion(
    learning_rate, b1, b2, mu_dtype=mu_dtype, weight_decay=weight_decay, mask=decayed
  )
  return Described(
    optimizer, "absolute", b1=b1, b2=b2, weight_decay=weight_decay, mu_dtype=mu_dtype
  )


def muon(
  learning_rate: Schedule,
  beta: FractionBelowOne = 0.95,
  weight_decay: NonNegativeFloat = 0.1,
  adam_b1: FractionBelowOne = 0.9,
  adam_b2: FractionBelowOne = 0.95,
) -> optax.GradientTransformation:
  """Returns Muon (Jordan 2024) for the kernels of the blocks, Adam without decay for the rest.

  Updates are scaled to AdamW's size (Liu 2025, section 2.2), so that one rate serves both.

  Args:
    learning_rate: the schedule.
    beta: how much of the moment a step keeps.
    weight_decay: share of a kernel that a step subtracts, times the learning rate.
    adam_b1, adam_b2: how much of its first and of its second moment Adam keeps.
  """
  optimizer = optax.contrib.muon(
    learning_rate,
    beta=beta,
    weight_decay=weight_decay,
    weight_decay_mask=decayed,
    adam_b1=adam_b1,
    adam_b2=adam_b2,
    consistent_rms=0.2,
    muon_weight_dimension_numbers=_muon_dimensions,
  )
  return Described(
    optimizer,
    "orthogonal",
    beta=beta,
    weight_decay=weight_decay,
    adam_b1=adam_b1,
    adam_b2=adam_b2,
  )


def decayed(params: Any) -> Any:
  """Returns True for kernels and embeddings; norms, biases and position biases do not decay."""

  def decay(path, _):
    names = path_names(path)
    return names[-1] == "kernel" or (names[-1] == "embedding" and "relative_bias" not in names)

  return jax.tree_util.tree_map_with_path(decay, params)


def per_layer_matrices(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """Applies `inner` to each kernel as a matrix, and to each layer and expert separately."""

  def view(tree):
    return jax.tree_util.tree_map_with_path(lambda path, x: x.reshape(_matrix(path, x)), tree)

  def label(tree):
    return jax.tree_util.tree_map_with_path(lambda path, _: _kind(path), tree)

  def over_layers(function):
    # Unrolled models have no stacks: optax then passes trees without arrays to map over.
    return lambda tree, *rest: (jax.vmap(function) if jax.tree.leaves(tree) else function)(
      tree, *rest
    )

  def mapped(one):
    return optax.GradientTransformation(over_layers(one.init), over_layers(one.update))

  def split(tree):
    transforms = {"single": inner, "stacked": mapped(inner)}
    if {"experts", "stacked_experts"} & set(jax.tree.leaves(label(tree))):
      transforms |= {"experts": mapped(inner), "stacked_experts": mapped(mapped(inner))}
    return optax.partition(transforms, label)

  def init(params):
    return split(params).init(view(params))

  def update(updates, state, params=None):
    new, state = split(updates).update(view(updates), state, view(params))
    return jax.tree.map(lambda x, like: x.reshape(like.shape), new, updates), state

  return optax.GradientTransformation(init, update)


def _kind(path) -> str:
  """Returns what the first axes of an array count: layers ("stacked"), experts, both or neither."""
  names = path_names(path)
  kinds = ("stacked" * ("layers" in names), "experts" * ("experts" in names))
  return "_".join(filter(None, kinds)) or "single"


def _num_stacked(path) -> int:
  """Returns how many of the first axes of an array count layers and experts."""
  return len({"layers", "experts"} & set(path_names(path)))


def _matrix_axes(path, ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
  """Returns the input and the output axes of a block's kernel, negative; None for other arrays."""
  names = path_names(path)
  if names[-1] != "kernel" or ndim - _num_stacked(path) < 2:
    return None
  if names[-2] in ("query", "key", "value"):
    return (-3,), (-2, -1)
  if names[-2] == "out":
    return (-3, -2), (-1,)
  return (-2,), (-1,)


def _matrix(path, x) -> tuple[int, ...]:
  axes = _matrix_axes(path, x.ndim)
  if axes is None:
    return x.shape
  inputs, outputs = (math.prod(x.shape[i] for i in group) for group in axes)
  return (*x.shape[: _num_stacked(path)], inputs, outputs)


def is_orthogonalized(path, ndim: int) -> bool:
  """Returns whether Muon's update of a parameter is orthogonal.

  Args:
    path: in the tree of parameters; ndim: of the parameter.
  """
  # The head is used as an embedding is.
  return _matrix_axes(path, ndim) is not None and path_names(path)[0] != "head"


def _muon_dimensions(params):
  def dimensions(path, x):
    if not is_orthogonalized(path, jnp.ndim(x)):
      return None
    axes = _matrix_axes(path, jnp.ndim(x))
    assert axes is not None
    inputs, outputs = (tuple(x.ndim + i for i in group) for group in axes)
    return optax.contrib.MuonDimensionNumbers(reduction_axis=inputs, output_axis=outputs)

  return jax.tree_util.tree_map_with_path(dimensions, params)
