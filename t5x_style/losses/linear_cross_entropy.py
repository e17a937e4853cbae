"""The output projection and its cross-entropy in one, without ever holding all the logits."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from t5x_style.errors import UserError
from t5x_style.losses.chunking import plan_chunks
from t5x_style.losses.passes import Plan, run
from t5x_style.losses.placement import current_placement
from t5x_style.losses.softmax import Terms
from t5x_style.losses.sums import LossSums, weighted_sum


def linear_cross_entropy(
  hidden: jax.Array,
  kernel: jax.Array,
  targets: jax.Array,
  weights: jax.Array,
  *,
  bias: jax.Array | None = None,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  logit_soft_cap: float | None = None,
  chunk_size: int | None = None,
  return_per_token: bool = False,
) -> LossSums:
  """Cross-entropy of softmax(hidden @ kernel + bias), summed over weighted tokens.

  The logits of a chunk of tokens exist at a time, and in training their gradient is taken at once:
  three products with the vocabulary instead of four, and nothing of size [tokens, V] is kept.

  Products are taken in the dtype of `hidden` and accumulated in float32; all else is float32.

  Differentiable in hidden, kernel, bias and weights through loss_sum; also, at the cost of
  recomputing the logits, through z_loss_sum and per_token. What counts correct predictions has no
  gradient. There are no second derivatives.

  Under a mesh (jax.set_mesh) of Auto axes, tokens and vocabulary stay where the logical axis rules
  for batch, length and vocab put them: each device cuts its own tokens into chunks, and what
  travels is a few numbers per token, hidden's gradient where the vocabulary is split, and the
  kernel's gradient once.

  Args:
    hidden: [..., D]; [B, L, D] under a mesh.
    kernel: [D, V], V >= 2.
    targets: int [...], from 0 to V - 1; elsewhere the loss is NaN, unless the weight is 0.
    weights: [...]; a position of weight 0 counts for nothing, even where hidden is NaN.
    bias: [V].
    z_loss: weight of log(Z)^2 (Mesh TensorFlow; T5X: 1e-4).
    label_smoothing: probability taken from the target and spread evenly over the other tokens. As
      in T5X the entropy of the smoothed targets is subtracted: a perfect prediction costs 0.
    logit_soft_cap: logits become cap * tanh(logits / cap) (Gemma 2, section 2).
    chunk_size: tokens per chunk and device; None lets plan_chunks choose.
    return_per_token: whether per_token is returned.
  """
  _check(hidden, kernel, targets, weights, bias, label_smoothing)
  vocab_size = kernel.shape[1]
  plan = Plan(
    Terms(vocab_size, float(z_loss), float(label_smoothing), logit_soft_cap),
    plan_chunks(hidden.shape, vocab_size, hidden.dtype, chunk_size),
    current_placement(hidden.shape, vocab_size),
  )
  weights = weights.astype(jnp.float32)
  loss_sum, tokens = _cross_entropy(plan, hidden, kernel, bias, targets, weights)
  return LossSums(
    loss_sum=loss_sum,
    z_loss_sum=weighted_sum(weights, tokens.z_loss),
    weight_sum=weights.sum(),
    correct_sum=weighted_sum(weights, tokens.correct),
    per_token=tokens if return_per_token else None,
  )


def _check(hidden, kernel, targets, weights, bias, label_smoothing):
  if hidden.shape[-1:] != kernel.shape[:1] or kernel.ndim != 2:
    raise ValueError(
      f"kernel {kernel.shape} must be [D, V] with D = {hidden.shape[-1]} of hidden {hidden.shape}."
    )
  if targets.shape != hidden.shape[:-1] or weights.shape != targets.shape:
    raise ValueError(
      f"targets {targets.shape} and weights {weights.shape} must have the shape "
      f"{hidden.shape[:-1]} of hidden {hidden.shape} without its last axis."
    )
  if not jnp.issubdtype(targets.dtype, jnp.integer):
    raise ValueError(f"targets are {targets.dtype}; they must be ids, whole numbers.")
  if bias is not None and bias.shape != kernel.shape[1:]:
    raise ValueError(f"bias {bias.shape} must be [V] with V = {kernel.shape[1]} of the kernel.")
  if kernel.shape[1] < 2:
    raise UserError(f"A vocabulary of {kernel.shape[1]} leaves nothing to predict.")
  if not 0 <= label_smoothing < 1:
    raise UserError(f"LABEL_SMOOTHING = {label_smoothing} must lie in [0, 1).")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(plan, hidden, kernel, bias, targets, weights):
  """(loss_sum, Tokens of [...]), without gradients: one product with the vocabulary."""
  tokens, _ = run(plan, hidden, kernel, bias, targets, weights)
  return weighted_sum(weights, tokens.loss + tokens.z_loss), tokens


def _forward(plan, *primals: Any):
  """The same, and the gradient of loss_sum along with it."""
  inputs: tuple[Any, ...] = tuple(None if x is None else x.value for x in primals)
  weights = inputs[-1]
  hidden, kernel, bias, targets, _ = inputs
  tokens, grads = run(plan, hidden, kernel, bias, targets, weights, (weights, weights))
  return (weighted_sum(weights, tokens.loss + tokens.z_loss), tokens), (inputs, tokens, grads)


def _backward(plan, residuals, cotangents):
  inputs, tokens, grads = residuals
  hidden, kernel, bias, targets, weights = inputs
  by_sum, by_tokens = jax.tree.map(
    lambda x: None if isinstance(x, SymbolicZero) else x,
    cotangents,
    is_leaf=lambda x: isinstance(x, SymbolicZero),
  )
  scale = 0.0 if by_sum is None else by_sum
  by_weights = scale * (tokens.loss + tokens.z_loss)
  if by_tokens.loss is not None or by_tokens.z_loss is not None:
    # Single tokens' losses are differentiated, with scales that were not known in the forward pass.
    scales = tuple(
      scale * weights + (0.0 if x is None else x) for x in (by_tokens.loss, by_tokens.z_loss)
    )
    _, grads = run(plan, hidden, kernel, bias, targets, weights, scales)
    scale = 1.0
  by_inputs = (
    None if x is None else (scale * grad.astype(jnp.float32)).astype(x.dtype)
    for x, grad in zip(inputs[:3], grads, strict=True)
  )
  return *by_inputs, None, by_weights


_cross_entropy.defvjp(_forward, _backward, symbolic_zeros=True)
