"""Output projection and cross-entropy, fused, so that not all logits exist at once.

Tokens are processed in chunks, on one device or on every device of a mesh; the mathematics of one
chunk is in chunk_cross_entropy.py.
"""

import functools
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec

from t5x_style.errors import UserError
from t5x_style.losses.chunk_cross_entropy import (
  Chunking,
  CrossEntropyOptions,
  MeshSplit,
  TokenLosses,
  chunk_gradients,
  chunk_losses,
  current_split,
  plan_chunks,
)

Scales = tuple[jax.Array, jax.Array] | None
Gradients = tuple[jax.Array, jax.Array, jax.Array | None] | None
Features = TypeVar("Features")


class LossSums(NamedTuple):
  """Sums over the tokens (or pairs) of a batch, float32 scalars.

  Sums of several microbatches or devices add up; divide once, by the global `weight_sum`.
  """

  loss_sum: jax.Array  # nats, weighted, z-loss included: what is minimised
  z_loss_sum: jax.Array  # nats, weighted: the part of loss_sum that is z-loss
  weight_sum: jax.Array
  correct_sum: jax.Array  # the weight of those whose target has the largest logit
  per_token: TokenLosses | None = None  # where it was requested

  def reweighted(self, weights: jax.Array) -> "LossSums":
    """Returns the sums with other weights [...], which must be 0 wherever the first ones were."""
    assert self.per_token is not None
    z_loss = weighted_sum(weights, self.per_token.z_loss)
    return LossSums(
      loss_sum=weighted_sum(weights, self.per_token.loss) + z_loss,
      z_loss_sum=z_loss,
      weight_sum=weights.sum(dtype=jnp.float32),
      correct_sum=weighted_sum(weights, self.per_token.correct),
      per_token=self.per_token,
    )


def weighted_sum(weights: jax.Array, values: jax.Array) -> jax.Array:
  """Returns the sum of weights * values, both of one shape: a scalar in float32."""
  return jnp.sum(weights * values, dtype=jnp.float32)


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
  """Returns the cross-entropy of softmax(hidden @ kernel + bias), summed over weighted tokens.

  Only the logits of one chunk of tokens exist at a time. In training their gradient is computed
  with them: three products with the vocabulary instead of four, and nothing of size [tokens, V] is
  kept. Products are taken in the dtype of `hidden` and accumulated in float32; the rest is float32.

  Differentiable with respect to hidden, kernel, bias and weights through loss_sum; also through
  z_loss_sum and per_token, at the cost of recomputing the logits. The counts of correct predictions
  have no gradient. There are no second derivatives.

  Under a mesh (jax.set_mesh) of Auto axes, tokens and vocabulary are split as the logical axis
  rules for batch, length and vocab say. Each device cuts its own tokens into chunks. The devices
  exchange a few numbers per token, the gradient of hidden where the vocabulary is split, and once
  the kernel's gradient.

  Args:
    hidden: [..., D]; [B, L, D] under a mesh.
    kernel: [D, V], V >= 2.
    targets: int [...], from 0 to V - 1; other ids make the loss NaN, unless their weight is 0.
    weights: [...]; a position of weight 0 has no influence, even where hidden is NaN.
    bias: [V].
    z_loss: weight of log(Z)^2 (Mesh TensorFlow; T5X: 1e-4).
    label_smoothing: probability taken from the target and spread evenly over the other tokens. As
      in T5X the entropy of the smoothed targets is subtracted: a perfect prediction costs 0.
    logit_soft_cap: logits become cap * tanh(logits / cap) (Gemma 2, section 2).
    chunk_size: tokens per chunk and device; None lets plan_chunks choose.
    return_per_token: whether per_token is returned.

  Raises:
    ValueError: shapes or dtypes do not fit.
    UserError: the vocabulary has one token only, or label_smoothing is not in [0, 1).
  """
  _check(hidden, kernel, targets, weights, bias, label_smoothing)
  vocab_size = kernel.shape[1]
  plan = LossPlan(
    CrossEntropyOptions(vocab_size, float(z_loss), float(label_smoothing), logit_soft_cap),
    plan_chunks(hidden.shape, vocab_size, hidden.dtype, chunk_size),
    current_split(hidden.shape, vocab_size),
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


def positions_with_loss(weights: jax.Array, max_targets: int) -> jax.Array:
  """Returns the positions of each row that carry loss, in order, padded to a static number.

  Rows with fewer than `max_targets` are filled up with positions of weight 0, which cost nothing in
  the loss. Rows must not have more: those beyond `max_targets` are left out.

      weights [[0, 1, 0, 1, 0]], max_targets 3 -> [[1, 3, 0]]

  Args:
    weights: [B, L].

  Returns:
    positions int32 [B, P] with P = min(max_targets, L).

  Raises:
    ValueError: max_targets is below 1.
  """
  if max_targets < 1:
    raise ValueError(f"max_targets = {max_targets} must be at least 1.")
  order = jnp.argsort(weights == 0, axis=-1, stable=True)
  return order[..., : min(max_targets, weights.shape[-1])].astype(jnp.int32)


def gather_targets(
  features: Features, weights: jax.Array, max_targets: int
) -> tuple[jax.Array, Features]:
  """Returns positions_with_loss [B, P], and the features [B, L] at these positions [B, P].

  Args:
    features: any tree of arrays, for example a dict of targets and weights.
  """
  positions = positions_with_loss(weights, max_targets)
  return positions, jax.tree.map(lambda x: jnp.take_along_axis(x, positions, axis=-1), features)


class LossPlan(NamedTuple):
  """Everything about a loss that is known when tracing; hashable."""

  options: CrossEntropyOptions
  chunks: Chunking
  split: MeshSplit | None  # None where arrays are not split over devices


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(plan, hidden, kernel, bias, targets, weights):
  """Returns (loss_sum, TokenLosses of [...]) without gradients: one product with the vocabulary."""
  tokens, _ = losses_and_gradients(plan, hidden, kernel, bias, targets, weights)
  return weighted_sum(weights, tokens.loss + tokens.z_loss), tokens


def _forward(plan, *primals: Any):
  """Returns _cross_entropy's results, and with them the gradient of loss_sum."""
  inputs: tuple[Any, ...] = tuple(None if x is None else x.value for x in primals)
  hidden, kernel, bias, targets, weights = inputs
  scales = (weights, weights)
  tokens, grads = losses_and_gradients(plan, hidden, kernel, bias, targets, weights, scales)
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
    # Losses of single tokens are differentiated, with scales that the forward pass did not know.
    scales = tuple(
      scale * weights + (0.0 if x is None else x) for x in (by_tokens.loss, by_tokens.z_loss)
    )
    _, grads = losses_and_gradients(plan, hidden, kernel, bias, targets, weights, scales)
    scale = 1.0
  by_inputs = (
    None if x is None else (scale * grad.astype(jnp.float32)).astype(x.dtype)
    for x, grad in zip(inputs[:3], grads, strict=True)
  )
  return *by_inputs, None, by_weights


_cross_entropy.defvjp(_forward, _backward, symbolic_zeros=True)


def losses_and_gradients(
  plan: LossPlan,
  hidden: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  targets: jax.Array,
  weights: jax.Array,
  scales: Scales = None,
) -> tuple[TokenLosses, Gradients]:
  """Returns the losses of all tokens and, if scales are given, gradients.

  Args:
    weights: [...]; only whether they are zero matters.
    scales: two arrays [...]; differentiates sum(scales[0] * loss + scales[1] * z_loss).

  Returns:
    TokenLosses of [...], zero where the weight is zero; the gradients with respect to hidden, in
    its dtype, and to kernel and bias, in float32.
  """
  kernel = kernel.astype(hidden.dtype)  # Before devices gather it, so that fewer bytes travel.
  if plan.split is None:
    return _on_one_device(plan, hidden, kernel, bias, targets, weights, scales)
  leading = targets.shape
  local_sizes = zip(plan.split.local(leading), plan.split.leading, leading, strict=True)
  missing = [local * plan.split.size(axes) - n for local, axes, n in local_sizes]
  if not any(missing):
    return _on_each_device(plan, hidden, kernel, bias, targets, weights, scales)
  pad = lambda x: jnp.pad(x, [(0, n) for n in missing] + [(0, 0)] * (x.ndim - len(leading)))
  hidden, targets, weights, scales = jax.tree.map(pad, (hidden, targets, weights, scales))
  tokens, grads = _on_each_device(plan, hidden, kernel, bias, targets, weights, scales)
  cut = lambda x: x[tuple(slice(n) for n in leading)]
  return jax.tree.map(cut, tokens), grads and (cut(grads[0]), *grads[1:])


def _on_each_device(plan, hidden, kernel, bias, targets, weights, scales):
  """Does losses_and_gradients under a mesh, for dimensions that divide over it."""
  split = plan.split
  token, of_hidden, vocab = split.token_spec(), split.token_spec(None), split.vocab or None
  of_bias = None if bias is None else PartitionSpec(vocab)
  of_kernel = PartitionSpec(split.scattered or None, vocab)
  return jax.shard_map(
    functools.partial(_on_one_device, plan),
    in_specs=(
      of_hidden,
      PartitionSpec(None, vocab),  # Gathered once, not once per chunk.
      of_bias,
      token,
      token,
      None if scales is None else (token, token),
    ),
    out_specs=(
      TokenLosses(token, token, token),
      None if scales is None else (of_hidden, of_kernel, of_bias),
    ),
    check_vma=False,
  )(hidden, kernel, bias, targets, weights, scales)


def _on_one_device(plan, hidden, kernel, bias, targets, weights, scales):
  """Does losses_and_gradients for all tokens, or for one device's own, in chunks."""
  chunks, leading = plan.chunks, targets.shape
  kernel = jnp.pad(kernel, ((0, 0), (0, chunks.padded_vocab_size - chunks.vocab_size)))
  step = functools.partial(_chunk, plan, kernel, bias)
  inputs = jax.tree.map(
    lambda x: x.reshape(chunks.tokens, *x.shape[len(leading) :]),
    (hidden, targets, weights != 0, scales),
  )
  if chunks.num_chunks == 1:
    sums, (tokens, by_hidden) = step(None, inputs)
  else:
    zeros = lambda x: None if x is None else jnp.zeros(x.shape, jnp.float32)
    sums = None if scales is None else (zeros(kernel), zeros(bias))
    sums, outputs = jax.lax.scan(step, sums, jax.tree.map(chunks.split, inputs))
    tokens, by_hidden = jax.tree.map(chunks.merge, outputs)
  tokens = jax.tree.map(lambda x: x.reshape(leading), tokens)
  if scales is None:
    return tokens, None
  by_kernel, by_bias = sums
  sums = by_kernel[:, : chunks.vocab_size], by_bias
  if plan.split:
    sums = _sum_over_devices(plan.split, *sums)
  return tokens, (by_hidden.reshape(hidden.shape), *sums)


def _chunk(plan, kernel, bias, sums, inputs):
  """Does one step of the scan.

  Returns the summed gradients of kernel and bias, and the losses and hidden gradients of the chunk.
  """
  hidden, targets, counted, scales = inputs
  axes = plan.split.vocab if plan.split else ()
  # Masked before the product, not after it, because NaN * 0 is NaN. The barrier makes XLA cut the
  # chunk out once instead of inside each product, which its model of TPUs estimates a fifth slower.
  hidden = jax.lax.optimization_barrier(jnp.where(counted[:, None], hidden, 0))
  tokens, softmax = chunk_losses(
    hidden, kernel, bias, targets, plan.options, plan.chunks.vocab_size, axes
  )
  known = (targets >= 0) & (targets < plan.options.vocab_size)
  fault = jnp.where(known, 0.0, jnp.nan)
  tokens = tokens._replace(loss=tokens.loss + fault)
  tokens = jax.tree.map(lambda x: jnp.where(counted, x, 0.0), tokens)
  if scales is None:
    return None, (tokens, None)
  by_loss, by_z_loss = (jnp.where(counted, x + fault, 0.0) for x in scales)
  by_hidden, *new = chunk_gradients(
    hidden, kernel, bias, softmax, by_loss, by_z_loss, plan.options, axes
  )
  sums = tuple(new) if sums is None else jax.tree.map(jnp.add, sums, tuple(new))
  return sums, (tokens, by_hidden)


def _sum_over_devices(split, by_kernel, by_bias):
  """Sums the gradients over all devices' tokens; the kernel's gradient stays split."""
  if split.scattered:
    by_kernel = jax.lax.psum_scatter(by_kernel, split.scattered, scatter_dimension=0, tiled=True)
  rest = tuple(axis for axis in split.tokens if axis not in split.scattered)
  if rest:
    by_kernel = jax.lax.psum(by_kernel, rest)
  if split.tokens and by_bias is not None:
    by_bias = jax.lax.psum(by_bias, split.tokens)
  return by_kernel, by_bias
