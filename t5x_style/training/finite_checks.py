"""Finds training that diverged: after every step, every evaluation, and before every save."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from t5x_style.training.metrics import Metrics
from t5x_style.training.state import named_leaves

_NAMED = 3  # arrays in a message
_ADVICE = (
  "Lower the learning rate, clip the gradients (CLIP_GRADIENT_NORM = 1.0) or add Z_LOSS = 1e-4."
)


def check_values(step: int, values: dict[str, float], saved_step: int | None) -> None:
  """Raises FloatingPointError if a value of a step is infinite or not a number.

  Args:
    saved_step: of the newest checkpoint, which the message names; None if there is none.
  """
  for name, value in values.items():
    if not math.isfinite(value):
      raise FloatingPointError(f"{name} is {value} at step {step}; {_saved(saved_step)} {_ADVICE}")


def check_skipped(step: int, metrics: Metrics, most: int, saved_step: int | None) -> None:
  """Raises FloatingPointError after `most` steps in a row that were not finite.

  Args:
    metrics: of the step, on the host.
    saved_step: of the newest checkpoint, None if there is none.
  """
  count = int(metrics.guard.not_finite_in_a_row)
  if count >= most:
    raise FloatingPointError(
      f"The loss or the gradient was not finite at {count} steps in a row, {step - count + 1} to "
      f"{step} (MAX_SKIPPED_STEPS = {most}): {_saved(saved_step)} None of these steps changed the "
      f"parameters; their batches are in MODEL_DIR/skipped_batches. {_ADVICE}"
    )


def check_state(step: int, names: list[str], saved_step: int | None) -> None:
  """Raises FloatingPointError if there are names of arrays that are not finite."""
  if names:
    raise FloatingPointError(
      f"The state after step {step} holds numbers that are not finite or overflow, in "
      f"{listed(names)}; it is not saved, and {_saved(saved_step)} {_ADVICE}"
    )


def listed(names: list[str]) -> str:
  """Returns the first few names, and how many more there are."""
  more = len(names) - _NAMED
  return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def make_find_not_finite(abstract: Any) -> Callable[[Any], list[str]]:
  """Compiles a function from a tree to the names of its arrays that are not finite.

  An array counts as finite if the sum of its squares is finite. An array of huge numbers does not
  count: its norms and gradients would overflow in the next step.

  Args:
    abstract: the tree's shapes, dtypes and shardings. Integers are always finite.
  """
  named = named_leaves(abstract)
  names = [name for name, x in named.items() if jnp.issubdtype(x.dtype, jnp.inexact)]

  def finite(leaves):
    return jnp.stack([jnp.isfinite(jnp.square(x.astype(jnp.float32)).sum()) for x in leaves])

  def floating(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]

  compiled = jax.jit(finite).lower(floating(abstract)).compile()

  def find(tree: Any) -> list[str]:
    each = jax.device_get(compiled(floating(tree)))
    return [name for name, is_finite in zip(names, each, strict=True) if not is_finite]

  return find


def _saved(step: int | None) -> str:
  return f"the last checkpoint is of step {step}." if step else "none was saved."
