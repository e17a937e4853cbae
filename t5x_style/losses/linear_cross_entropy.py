"""The output projection and its cross-entropy in one, without ever holding all the logits."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec

from t5x_style.losses.chunking import merge, plan_chunks, split
from t5x_style.losses.placement import Placement, current_placement
from t5x_style.losses.softmax import Terms, Tokens, chunk_gradients, chunk_losses
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
  recomputing the logits, through z_loss_sum and per_token_loss. correct_sum has no gradient. There
  are no second derivatives.

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
    return_per_token: whether per_token_loss is returned.
  """
  _check(hidden, kernel, targets, weights, bias, label_smoothing)
  terms = Terms(kernel.shape[1], float(z_loss), float(label_smoothing), logit_soft_cap)
  placement = current_placement(hidden.shape[:-1], *kernel.shape)
  how = (terms, placement, chunk_size)
  weights = weights.astype(jnp.float32)
  loss_sum, tokens = _cross_entropy(how, hidden, kernel, bias, targets, weights)
  return LossSums(
    loss_sum=loss_sum,
    z_loss_sum=weighted_sum(weights, tokens.z_loss),
    weight_sum=weights.sum(),
    correct_sum=weighted_sum(weights, tokens.correct),
    per_token_loss=tokens.loss if return_per_token else None,
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
  if bias is not None and bias.shape != kernel.shape[1:]:
    raise ValueError(f"bias {bias.shape} must be [V] with V = {kernel.shape[1]} of the kernel.")
  if kernel.shape[1] < 2:
    raise ValueError(f"A vocabulary of {kernel.shape[1]} leaves nothing to predict.")
  if not 0 <= label_smoothing < 1:
    raise ValueError(f"LABEL_SMOOTHING = {label_smoothing} must lie in [0, 1).")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(how, hidden, kernel, bias, targets, weights):
  """(loss_sum, Tokens of [...]): only the losses, one product with the vocabulary."""
  tokens, _ = _run(how, hidden, kernel, bias, targets, weights, None)
  return weighted_sum(weights, tokens.loss + tokens.z_loss), tokens


def _forward(how, *arguments):
  """Takes the gradient of loss_sum along with it."""
  inputs = jax.tree.map(lambda x: x.value, arguments, is_leaf=lambda x: hasattr(x, "perturbed"))
  weights = inputs[-1]
  tokens, grads = _run(how, *inputs, (weights, weights))
  outputs = weighted_sum(weights, tokens.loss + tokens.z_loss), tokens
  return outputs, (inputs, tokens, grads)


def _backward(how, residuals, cotangents):
  inputs, tokens, grads = residuals
  weights = inputs[-1]
  by_sum, by_tokens = cotangents
  by_sum = 0.0 if isinstance(by_sum, SymbolicZero) else by_sum
  asked = [x for x in by_tokens[:2] if not isinstance(x, SymbolicZero)]
  if asked:
    # Someone differentiates single tokens' losses: their scales were not known before.
    counted = weights != 0
    scales = tuple(
      by_sum * weights + (0.0 if isinstance(x, SymbolicZero) else jnp.where(counted, x, 0.0))
      for x in by_tokens[:2]
    )
    _, grads = _run(how, *inputs, scales)
    by_sum_of_grads = 1.0
  else:
    by_sum_of_grads = by_sum
  by_inputs = (
    None if x is None else (g.astype(jnp.float32) * by_sum_of_grads).astype(x.dtype)
    for x, g in zip(inputs[:3], grads, strict=True)
  )
  return *by_inputs, None, by_sum * (tokens.loss + tokens.z_loss)


_cross_entropy.defvjp(_forward, _backward, symbolic_zeros=True)


def _run(how, hidden, kernel, bias, targets, weights, scales):
  """Losses of all tokens, and with scales the gradients by hidden, kernel and bias."""
  terms, placement, chunk_size = how
  if placement is None:
    return _scan(terms, None, chunk_size, hidden, kernel, bias, targets, weights, scales)
  leading = targets.shape
  missing = [-n % placement.size(axes) for n, axes in zip(leading, placement.leading, strict=True)]
  pad = lambda x: jnp.pad(x, [(0, n) for n in missing] + [(0, 0)] * (x.ndim - len(leading)))
  if any(missing):
    hidden, targets, weights, scales = jax.tree.map(pad, (hidden, targets, weights, scales))
  token, of_hidden = placement.token_spec(), placement.token_spec(None)
  vocab = placement.vocab or None
  of_bias = None if bias is None else PartitionSpec(vocab)
  gradient = (of_hidden, PartitionSpec(placement.scattered or None, vocab), of_bias)
  tokens, grads = jax.shard_map(
    functools.partial(_scan, terms, placement, chunk_size),
    in_specs=(
      of_hidden,
      PartitionSpec(None, vocab),
      of_bias,
      token,
      token,
      None if scales is None else (token, token),
    ),
    out_specs=(Tokens(token, token, token), None if scales is None else gradient),
    check_vma=False,
  )(hidden, kernel, bias, targets, weights, scales)
  if any(missing):
    cut = lambda x: x[tuple(slice(n) for n in leading)]
    tokens = jax.tree.map(cut, tokens)
    if grads is not None:
      grads = (cut(grads[0]), *grads[1:])
  return tokens, grads


def _scan(terms, placement, chunk_size, hidden, kernel, bias, targets, weights, scales):
  """The same on one device: on all tokens, or on its own under a mesh."""
  axes = placement.vocab if placement else ()
  leading, tokens = targets.shape, math.prod(targets.shape)
  chunks = plan_chunks(tokens, kernel.shape[1], hidden.dtype, chunk_size)
  counted = weights != 0
  # Not after the product: NaN * 0 is NaN.
  hidden = jnp.where(counted[..., None], hidden, 0)
  cast_kernel = kernel.astype(hidden.dtype)

  def step(sums, chunk):
    part, target, use, scale = chunk
    losses, softmax = chunk_losses(part, cast_kernel, bias, target, terms, axes)
    known = (target >= 0) & (target < terms.vocab_size)
    bad = jnp.where(known, 0.0, jnp.nan)
    losses = losses._replace(loss=losses.loss + bad)
    losses = jax.tree.map(lambda x: jnp.where(use, x, 0.0), losses)
    if scale is None:
      return None, (losses, None)
    loss_scale, z_scale = (jnp.where(use, x + bad, 0.0) for x in scale)
    by_hidden, *new = chunk_gradients(
      part, cast_kernel, bias, softmax, loss_scale, z_scale, terms, axes
    )
    return new if sums is None else jax.tree.map(jnp.add, sums, new), (losses, by_hidden)

  flat = jax.tree.map(
    lambda x: x.reshape(tokens, *x.shape[len(leading) :]), (hidden, targets, counted, scales)
  )
  if chunks.num_chunks == 1:
    sums, (losses, by_hidden) = step(None, flat)
  else:
    sums = None
    if scales is not None:
      zeros = lambda x: None if x is None else jnp.zeros(x.shape, jnp.float32)
      sums = [zeros(kernel), zeros(bias)]
    cut = jax.tree.map(lambda x: split(x, chunks), flat)
    sums, out = jax.lax.scan(step, sums, cut)
    losses, by_hidden = jax.tree.map(lambda x: merge(x, chunks), out)
  losses = jax.tree.map(lambda x: x.reshape(leading), losses)
  if scales is None:
    return losses, None
  by_kernel, by_bias = sums
  if placement:
    by_kernel, by_bias = _sum_over_devices(placement, by_kernel, by_bias)
  return losses, (by_hidden.reshape(hidden.shape), by_kernel, by_bias)


def _sum_over_devices(placement: Placement, by_kernel, by_bias):
  """Adds up the gradients of every device's tokens, the kernel's split as the kernel is."""
  tokens, scattered = placement.tokens, placement.scattered
  if scattered:
    by_kernel = jax.lax.psum_scatter(by_kernel, scattered, scatter_dimension=0, tiled=True)
  rest = tuple(axis for axis in tokens if axis not in scattered)
  if rest:
    by_kernel = jax.lax.psum(by_kernel, rest)
  if tokens and by_bias is not None:
    by_bias = jax.lax.psum(by_bias, tokens)
  return by_kernel, by_bias
