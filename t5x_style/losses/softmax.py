"""Cross-entropy of one chunk of tokens: the logits, the losses and the gradients, all explicit."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.losses.sums import Tokens

Axes = tuple[str, ...]


class Terms(NamedTuple):
  """What is added to the logits' negative log-likelihood; hashable, known when tracing."""

  vocab_size: int
  z_loss: float
  label_smoothing: float
  logit_soft_cap: float | None

  @property
  def low(self) -> float:
    """The smoothed probability of a token that is not the target."""
    return self.label_smoothing / (self.vocab_size - 1)

  @property
  def entropy(self) -> float:
    """Of the smoothed targets: subtracted, so that a perfect prediction costs 0, as in T5X."""
    if not self.label_smoothing:
      return 0.0
    high = 1.0 - self.label_smoothing
    return -(high * math.log(high) + self.label_smoothing * math.log(self.low))


class Softmax(NamedTuple):
  """A chunk of C tokens against the V local columns of the vocabulary, float32."""

  logits: jax.Array  # [C, V], before the soft cap
  at_target: jax.Array  # [C, V] bool
  top: jax.Array  # [C], the largest logit, after the soft cap
  total: jax.Array  # [C], sum of exp(capped logits - top)


def _capped(logits: jax.Array, cap: float | None) -> jax.Array:
  return logits if cap is None else cap * jnp.tanh(logits / cap)


def _cap_slope(logits: jax.Array, cap: float) -> jax.Array:
  """The derivative of the soft cap, sech^2(logits / cap).

  From the logits before the cap: 1 - tanh^2 would be the rounding of tanh where it is nearly 1.
  """
  decay = jnp.exp(-2.0 * jnp.abs(logits / cap))
  return 4.0 * decay / jnp.square(1.0 + decay)


def chunk_losses(
  hidden: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  targets: jax.Array,
  terms: Terms,
  num_columns: int,
  axes: Axes = (),
) -> tuple[Tokens, Softmax]:
  """Losses of hidden [C, D] @ kernel [D, V] at targets [C].

  Where the vocabulary is split over the mesh axes `axes`, kernel and bias hold this device's part.
  V is `num_columns`; what the kernel has beyond it is padding, and counts for nothing.
  """
  logits = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)[:, :num_columns]
  if bias is not None:
    logits += bias.astype(jnp.float32)
  first = jax.lax.axis_index(axes) * num_columns if axes else 0
  column = targets - first  # The target's, where it lies within this device's columns.
  columns = jax.lax.broadcasted_iota(jnp.int32, (1, num_columns), 1)
  here = (column >= 0) & (column < num_columns)
  at = jnp.take_along_axis(logits, jnp.where(here, column, 0)[:, None], axis=1)[:, 0]
  # Two passes over the logits: of maxima, then of sums. XLA makes one loop of each, and a fast one
  # on CPUs too, as long as the target's logit is gathered.
  before = jnp.where(columns < column[:, None], logits, -jnp.inf).max(-1)
  tops = logits.max(-1), before, jnp.where(here, at, -jnp.inf)
  top, before, at = jax.lax.pmax(tops, axes) if axes else tops
  # Before the soft cap, which rounds large logits to the same number.
  correct = ((at == top) & (before < top)).astype(jnp.float32)
  capped, top, at = (_capped(x, terms.logit_soft_cap) for x in (logits, top, at))
  # Everything below is relative to the largest logit: exact where logits are far from zero.
  sums = [jnp.exp(capped - top[:, None]).sum(-1)]
  if terms.label_smoothing:
    sums.append((capped - top[:, None]).sum(-1))
  if axes:
    sums = jax.lax.psum(sums, axes)
  total = sums[0]
  log_total = jnp.log(total)
  loss = log_total - (1.0 - terms.label_smoothing - terms.low) * (at - top)
  if terms.label_smoothing:
    loss -= terms.low * sums[1] + terms.entropy
  z_loss = terms.z_loss * jnp.square(top + log_total)
  return Tokens(loss, z_loss, correct), Softmax(logits, columns == column[:, None], top, total)


def chunk_gradients(
  hidden: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  softmax: Softmax,
  loss_scale: jax.Array,
  z_scale: jax.Array,
  terms: Terms,
  axes: Axes = (),
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Gradients of sum(loss_scale * loss + z_scale * z_loss) by hidden, kernel and bias.

  The scales are [C]. The kernel may be padded as in chunk_losses; its gradient then is, too. The
  products are accumulated in float32, and returned so, except hidden's.
  """
  logits, at_target, top, total = softmax
  log_z = top + jnp.log(total)
  scale = (loss_scale + z_scale * (2.0 * terms.z_loss) * log_z) / total
  wanted = jnp.where(at_target, 1.0 - terms.label_smoothing, terms.low)
  capped = _capped(logits, terms.logit_soft_cap)
  grads = jnp.exp(capped - top[:, None]) * scale[:, None] - loss_scale[:, None] * wanted
  if terms.logit_soft_cap is not None:
    grads *= _cap_slope(logits, terms.logit_soft_cap)
  bias_grad = None if bias is None else grads.sum(0)
  padding = kernel.shape[1] - grads.shape[1]
  grads = jnp.pad(grads.astype(hidden.dtype), ((0, 0), (0, padding)))
  hidden_grad = jnp.matmul(grads, kernel.T, preferred_element_type=jnp.float32)
  kernel_grad = jnp.matmul(hidden.T, grads, preferred_element_type=jnp.float32)
  if axes:
    hidden_grad = jax.lax.psum(hidden_grad, axes)
  return hidden_grad.astype(hidden.dtype), kernel_grad, bias_grad
