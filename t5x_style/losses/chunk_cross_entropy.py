"""Cross-entropy of one chunk of tokens: its size on each device, its losses and their gradients."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from t5x_style.partitioning import active_mesh
from t5x_style.soft_cap import soft_cap_slope, soft_capped

# Bytes of logits and of their gradient that may exist at once on a device. On accelerators this is
# a chunk of 1,024 tokens of the largest vocabularies; with smaller chunks the time to add up the
# kernel's gradient would show. On CPUs it is what measured fastest (launch/benchmarks/NOTES.md).
_MEMORY_BUDGET = {"cpu": 256 * 2**20}
_MEMORY_BUDGET_OF_ACCELERATORS = 1536 * 2**20

# Columns of the kernel are padded to a multiple of this. The fast products of a GPU need rows that
# start at multiples of 16 bytes: BERT's 30,522 and GPT-2's 50,257 columns ran at half speed.
_COLUMN_MULTIPLE = {"gpu": 128}

# Large chunks are multiples of this, small ones of 8, to fill the tiles of a matrix unit.
_TILE = 128

Axes = tuple[str, ...]  # of the mesh


class CrossEntropyOptions(NamedTuple):
  """What linear_cross_entropy is called with, and the size of the whole vocabulary; hashable."""

  vocab_size: int
  z_loss: float
  label_smoothing: float
  logit_soft_cap: float | None

  @property
  def low(self) -> float:
    """The smoothed probability of each token that is not the target."""
    return self.label_smoothing / (self.vocab_size - 1)

  @property
  def entropy(self) -> float:
    """The entropy of the smoothed targets, subtracted so that a perfect prediction costs 0."""
    if not self.label_smoothing:
      return 0.0
    high = 1.0 - self.label_smoothing
    return -(high * math.log(high) + self.label_smoothing * math.log(self.low))

  def capped(self, logits: jax.Array) -> jax.Array:
    """Returns the logits after the soft cap, if there is one."""
    return logits if self.logit_soft_cap is None else soft_capped(logits, self.logit_soft_cap)


class TokenLosses(NamedTuple):
  """The unweighted values of each token, float32; 0 where its weight is 0."""

  loss: jax.Array  # nats, without z-loss
  z_loss: jax.Array  # nats
  correct: jax.Array  # 1 where the target has the largest logit (the first of equals), else 0


class Chunking(NamedTuple):
  """How one device computes the loss: `num_chunks` chunks of `chunk_size` tokens, in turn."""

  tokens: int  # of this device
  vocab_size: int  # of this device
  padded_vocab_size: int  # columns of the kernel after padding
  chunk_size: int
  num_chunks: int
  bytes: int  # upper bound of the logits and their gradient: XLA may keep less

  def __str__(self) -> str:
    """Returns for example "16 chunks of 1,024 tokens x 262,144 logits, 1.5 GiB"."""
    chunks = f"{self.num_chunks} chunks of " if self.num_chunks > 1 else ""
    mib = self.bytes / 2**20
    size = f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.1f} MiB"
    return f"{chunks}{self.chunk_size:,} tokens x {self.vocab_size:,} logits, {size}"

  def split(self, x: jax.Array) -> jax.Array:
    """[tokens, ...] -> [num_chunks, chunk_size, ...], padded with zeros."""
    missing = self.num_chunks * self.chunk_size - x.shape[0]
    if missing:
      x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(self.num_chunks, self.chunk_size, *x.shape[1:])

  def merge(self, x: jax.Array) -> jax.Array:
    """Undoes split: [num_chunks, chunk_size, ...] -> [tokens, ...]."""
    return x.reshape(-1, *x.shape[2:])[: self.tokens]


class MeshSplit(NamedTuple):
  """Mesh axes over which the dimensions of hidden [..., D] and kernel [D, V] are split."""

  leading: tuple[Axes, ...]  # of each dimension of hidden before D
  vocab: Axes
  embed: Axes  # of the kernel's D
  sizes: tuple[tuple[str, int], ...]  # devices along each mesh axis

  @property
  def tokens(self) -> Axes:
    """All axes over which tokens are split."""
    return tuple(axis for axes in self.leading for axis in axes)

  @property
  def scattered(self) -> Axes:
    """Axes over which the kernel's gradient is summed and split in one operation."""
    return self.embed if set(self.embed) <= set(self.tokens) else ()

  def size(self, axes: Axes) -> int:
    """Returns the number of devices along these axes."""
    return math.prod(dict(self.sizes)[axis] for axis in axes)

  def local(self, leading: Sequence[int]) -> tuple[int, ...]:
    """Returns the dimensions before D on one device, rounded up."""
    return tuple(-(-n // self.size(axes)) for n, axes in zip(leading, self.leading, strict=True))

  def token_spec(self, *rest: None) -> PartitionSpec:
    return PartitionSpec(*(axes or None for axes in self.leading), *rest)


def current_split(hidden_shape: Sequence[int], vocab_size: int) -> MeshSplit | None:
  """Returns how the active mesh splits hidden [..., D] and kernel [D, V]; None if it does not."""
  *leading, emb_dim = hidden_shape
  names = ("batch", "length", *[None] * len(leading))[: len(leading)]
  tokens = active_mesh.mesh_axes(names)
  of_kernel = active_mesh.mesh_axes(("embed", "vocab"))
  if tokens is None or of_kernel is None:
    return None
  embed, vocab = of_kernel
  sizes = {k: n for k, n in jax.sharding.get_abstract_mesh().shape.items() if n > 1}
  # Either each device has all logits of its tokens, or all devices that hold a part of the
  # vocabulary hold the same tokens.
  vocab = tuple(axis for axis in vocab if not any(axis in axes for axes in tokens))
  if vocab_size % math.prod(sizes[axis] for axis in vocab):
    vocab = ()
  if emb_dim % math.prod(sizes[axis] for axis in embed):
    embed = ()
  return MeshSplit(tokens, vocab, embed, tuple(sizes.items()))


def plan_chunks(
  hidden_shape: Sequence[int],
  vocab_size: int,
  dtype: jax.typing.DTypeLike,
  chunk_size: int | None = None,
) -> Chunking:
  """Returns how linear_cross_entropy computes on each device of the active mesh, or on this one.

  Args:
    hidden_shape: [..., D], of the whole batch.
    dtype: of the hidden states.
    chunk_size: tokens per chunk; None takes as many as fit the memory budget.

  Raises:
    ValueError: chunk_size is below 1.
  """
  if chunk_size is not None and chunk_size < 1:
    raise ValueError(f"chunk_size = {chunk_size} must be at least 1, or None to have it chosen.")
  split = current_split(hidden_shape, vocab_size)
  leading = tuple(hidden_shape[:-1])
  if split:
    leading = split.local(leading)
    vocab_size //= split.size(split.vocab)
  platform = active_mesh.current_platform()
  return chunks_of_device(math.prod(leading), vocab_size, dtype, platform, chunk_size)


def chunks_of_device(
  tokens: int,
  vocab_size: int,
  dtype: jax.typing.DTypeLike,
  platform: str,
  chunk_size: int | None = None,
) -> Chunking:
  """Returns how one device, present or not, computes the loss of its tokens.

  Args:
    tokens, vocab_size: this device's share of them.
    dtype: of the hidden states.
    platform: "cpu", "gpu" or "tpu".
    chunk_size: tokens per chunk; None takes as many as fit the memory budget.
  """
  row = vocab_size * (4 + np.dtype(dtype).itemsize)  # Logits in float32, their gradient in dtype.
  size = chunk_size
  if size is None:
    budget = _MEMORY_BUDGET.get(platform, _MEMORY_BUDGET_OF_ACCELERATORS)
    size = _even_size(tokens, max(1, budget // row))
  size = max(1, min(size, tokens))
  padded = vocab_size + -vocab_size % _COLUMN_MULTIPLE.get(platform, 1)
  return Chunking(tokens, vocab_size, padded, size, math.ceil(tokens / size), size * row)


def _even_size(tokens: int, limit: int) -> int:
  """Returns a chunk size of at most about `limit` that needs little padding of `tokens`."""
  if tokens <= limit:
    return tokens
  size = math.ceil(tokens / math.ceil(tokens / limit))
  tile = _TILE if size >= 8 * _TILE else 8
  return math.ceil(size / tile) * tile


class Softmax(NamedTuple):
  """What the gradients need of a chunk of C tokens against V local columns; floats are float32."""

  logits: jax.Array  # [C, V], before the soft cap
  at_target: jax.Array  # [C, V] bool
  top: jax.Array  # [C], the largest logit, after the soft cap
  total: jax.Array  # [C], sum of exp(capped logits - top)


def chunk_losses(
  hidden: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  targets: jax.Array,
  options: CrossEntropyOptions,
  num_columns: int,
  axes: Axes = (),
) -> tuple[TokenLosses, Softmax]:
  """Returns the losses of hidden [C, D] @ kernel [D, V or more] at targets [C].

  Where the vocabulary is split over the mesh axes `axes`, kernel and bias hold this device's part.
  Columns of the kernel from V = `num_columns` on are padding and are ignored.
  """
  logits = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)[:, :num_columns]
  if bias is not None:
    logits += bias.astype(jnp.float32)
  first = jax.lax.axis_index(axes) * num_columns if axes else 0
  column = targets - first  # The target's column, if it is one of this device's.
  columns = jax.lax.broadcasted_iota(jnp.int32, (1, num_columns), 1)
  here = (column >= 0) & (column < num_columns)
  at = jnp.take_along_axis(logits, jnp.where(here, column, 0)[:, None], axis=1)[:, 0]
  # Two passes over the logits, first maxima, then sums. XLA compiles each to one loop, which is
  # fast on CPUs too because the target's logit is gathered instead of summed.
  before = jnp.where(columns < column[:, None], logits, -jnp.inf).max(-1)
  tops = logits.max(-1), before, jnp.where(here, at, -jnp.inf)
  top, before, at = jax.lax.pmax(tops, axes) if axes else tops
  # Compared before the soft cap, which rounds large logits to the same number.
  correct = ((at == top) & (before < top)).astype(jnp.float32)
  capped, top, at = (options.capped(x) for x in (logits, top, at))
  # From here on relative to the largest logit: exact where logits are far from zero.
  sums = [jnp.exp(capped - top[:, None]).sum(-1)]
  if options.label_smoothing:
    sums.append((capped - top[:, None]).sum(-1))
  if axes:
    sums = jax.lax.psum(sums, axes)
  total = sums[0]
  log_total = jnp.log(total)
  loss = log_total - (1.0 - options.label_smoothing - options.low) * (at - top)
  if options.label_smoothing:
    loss -= options.low * sums[1] + options.entropy
  z_loss = options.z_loss * jnp.square(top + log_total)
  return TokenLosses(loss, z_loss, correct), Softmax(logits, columns == column[:, None], top, total)


def chunk_gradients(
  hidden: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  softmax: Softmax,
  loss_scale: jax.Array,
  z_scale: jax.Array,
  options: CrossEntropyOptions,
  axes: Axes = (),
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Returns the gradients of sum(loss_scale * loss + z_scale * z_loss).

  Args:
    hidden, kernel, bias, options, axes: as of chunk_losses.
    loss_scale, z_scale: [C].

  Returns:
    The gradients with respect to hidden, in its dtype, and to the kernel with its padding and the
    bias, in float32. All products are accumulated in float32.
  """
  logits, at_target, top, total = softmax
  log_z = top + jnp.log(total)
  scale = (loss_scale + z_scale * (2.0 * options.z_loss) * log_z) / total
  wanted = jnp.where(at_target, 1.0 - options.label_smoothing, options.low)
  capped = options.capped(logits)
  grads = jnp.exp(capped - top[:, None]) * scale[:, None] - loss_scale[:, None] * wanted
  if options.logit_soft_cap is not None:
    grads *= soft_cap_slope(logits, options.logit_soft_cap)
  bias_grad = None if bias is None else grads.sum(0)
  padding = kernel.shape[1] - grads.shape[1]
  grads = jnp.pad(grads.astype(hidden.dtype), ((0, 0), (0, padding)))
  hidden_grad = jnp.matmul(grads, kernel.T, preferred_element_type=jnp.float32)
  kernel_grad = jnp.matmul(hidden.T, grads, preferred_element_type=jnp.float32)
  if axes:
    hidden_grad = jax.lax.psum(hidden_grad, axes)
  return hidden_grad.astype(hidden.dtype), kernel_grad, bias_grad
