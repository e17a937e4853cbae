"""One pass over all tokens in chunks, on one device or on every device of a mesh."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from t5x_style.losses.chunking import Chunking, merge, split
from t5x_style.losses.placement import Placement
from t5x_style.losses.softmax import Terms, chunk_gradients, chunk_losses
from t5x_style.losses.sums import Tokens
from t5x_style.partitioning.active_mesh import current_platform

Scales = tuple[jax.Array, jax.Array] | None
Gradients = tuple[jax.Array, jax.Array, jax.Array | None] | None

_ALIGNED_COLUMNS = 128  # As wide as a tile of a product.


class Plan(NamedTuple):
  """All that is known when tracing; hashable."""

  terms: Terms
  chunks: Chunking
  placement: Placement | None


def run(
  plan: Plan,
  hidden: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  targets: jax.Array,
  weights: jax.Array,
  scales: Scales = None,
) -> tuple[Tokens, Gradients]:
  """Losses of all tokens and, with scales, gradients.

  Args:
    weights: only whether they are zero matters.
    scales: [...] twice; differentiates sum(scales[0] * loss + scales[1] * z_loss).

  Returns:
    Tokens of [...], zero where the weight is zero; gradients by hidden in its dtype, by kernel and
    bias in float32.
  """
  kernel = kernel.astype(hidden.dtype)  # Here already, so that devices gather fewer bytes.
  if plan.placement is None:
    return _on_one_device(plan, hidden, kernel, bias, targets, weights, scales)
  place, leading = plan.placement, targets.shape
  missing = [local * place.size(axes) - n for local, axes, n in _local_sizes(place, leading)]
  pad = lambda x: jnp.pad(x, [(0, n) for n in missing] + [(0, 0)] * (x.ndim - len(leading)))
  if any(missing):
    hidden, targets, weights, scales = jax.tree.map(pad, (hidden, targets, weights, scales))
  token, of_hidden, vocab = place.token_spec(), place.token_spec(None), place.vocab or None
  of_bias = None if bias is None else PartitionSpec(vocab)
  of_kernel = PartitionSpec(_scattered(place) or None, vocab)
  tokens, grads = jax.shard_map(
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
      Tokens(token, token, token),  # type: ignore[arg-type]  # a tree of specs, not of arrays
      None if scales is None else (of_hidden, of_kernel, of_bias),
    ),
    check_vma=False,
  )(hidden, kernel, bias, targets, weights, scales)
  if any(missing):
    cut = lambda x: x[tuple(slice(n) for n in leading)]
    tokens = jax.tree.map(cut, tokens)
    grads = grads and (cut(grads[0]), *grads[1:])
  return tokens, grads


def _local_sizes(place, leading):
  return zip(place.local(leading), place.leading, leading, strict=True)


def _on_one_device(plan, hidden, kernel, bias, targets, weights, scales):
  """`run` on all tokens, or on a device's own."""
  chunks, leading = plan.chunks, targets.shape
  kernel = _pad_columns(kernel)
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
    inputs = jax.tree.map(lambda x: split(x, chunks), inputs)
    sums, outputs = jax.lax.scan(step, sums, inputs)
    tokens, by_hidden = jax.tree.map(lambda x: merge(x, chunks), outputs)
  tokens = jax.tree.map(lambda x: x.reshape(leading), tokens)
  if scales is None:
    return tokens, None
  by_kernel, by_bias = sums
  sums = by_kernel[:, : chunks.vocab_size], by_bias
  if plan.placement:
    sums = _sum_over_devices(plan.placement, *sums)
  return tokens, (by_hidden.reshape(hidden.shape), *sums)


def _pad_columns(kernel):
  """With columns of zeros, so that on a GPU rows of logits and of the kernel begin aligned.

  Its fast products want their rows at multiples of 16 bytes; BERT's 30,522 and GPT-2's 50,257
  columns had them at half of their speed.
  """
  padding = -kernel.shape[1] % _ALIGNED_COLUMNS if current_platform() == "gpu" else 0
  return jnp.pad(kernel, ((0, 0), (0, padding)))


def _chunk(plan, kernel, bias, sums, inputs):
  """A step of the scan: the sums of gradients by kernel and bias, then what belongs to tokens."""
  hidden, targets, counted, scales = inputs
  axes = plan.placement.vocab if plan.placement else ()
  # Masked before the product, not after it: NaN * 0 is NaN. The barrier has the chunk cut out once,
  # not inside of each product, which XLA for TPUs expects to take a fifth longer.
  hidden = jax.lax.optimization_barrier(jnp.where(counted[:, None], hidden, 0))
  tokens, softmax = chunk_losses(
    hidden, kernel, bias, targets, plan.terms, plan.chunks.vocab_size, axes
  )
  known = (targets >= 0) & (targets < plan.terms.vocab_size)
  fault = jnp.where(known, 0.0, jnp.nan)
  tokens = tokens._replace(loss=tokens.loss + fault)
  tokens = jax.tree.map(lambda x: jnp.where(counted, x, 0.0), tokens)
  if scales is None:
    return None, (tokens, None)
  by_loss, by_z_loss = (jnp.where(counted, x + fault, 0.0) for x in scales)
  by_hidden, *new = chunk_gradients(
    hidden, kernel, bias, softmax, by_loss, by_z_loss, plan.terms, axes
  )
  return tuple(new) if sums is None else jax.tree.map(jnp.add, sums, tuple(new)), (
    tokens,
    by_hidden,
  )


def _scattered(place: Placement) -> tuple[str, ...]:
  """Axes over which the kernel's gradient is summed and split at once."""
  return place.embed if set(place.embed) <= set(place.tokens) else ()


def _sum_over_devices(place, by_kernel, by_bias):
  """Adds up the gradients of every device's tokens, once; the kernel's stays split as it is."""
  scattered = _scattered(place)
  if scattered:
    by_kernel = jax.lax.psum_scatter(by_kernel, scattered, scatter_dimension=0, tiled=True)
  rest = tuple(axis for axis in place.tokens if axis not in scattered)
  if rest:
    by_kernel = jax.lax.psum(by_kernel, rest)
  if place.tokens and by_bias is not None:
    by_bias = jax.lax.psum(by_bias, place.tokens)
  return by_kernel, by_bias
