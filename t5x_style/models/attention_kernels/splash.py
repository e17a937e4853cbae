"""Splash attention: JAX's Pallas kernel for TPUs, which holds no logits and skips hidden blocks."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import NamedSharding

from t5x_style.hardware import TPU_LANES
from t5x_style.models.attention_kernels.head_sharding import heads_error, repeat_key_heads
from t5x_style.models.attention_kernels.pattern import (
  OUTPUT_NAME,
  AttentionInputs,
  AttentionSpec,
  Pattern,
)
from t5x_style.partitioning.active_mesh import (
  num_shards,
  on_each_device,
  partition_spec,
)

PLATFORM, TITLE = "tpu", "splash attention"
PATTERN_FIELDS = frozenset({"query_segments", "key_segments", "prefix", "causal", "window"})

_BLOCK_SIZES = (512, 384, 256, 128)
_QUERIES = ("batch", "heads", "length", "kv")
_KEYS = ("batch", "heads", None, "kv")  # If the length is split, keys are gathered.


def reason_against(spec: AttentionSpec) -> str | None:
  """Returns why splash attention cannot compute this, or None if it can."""
  if spec.bias:
    return "splash attention has no bias, which relative positions need"
  shards, length = num_shards(("batch", "length"))[1], spec.queries[1]
  if shards > 1 and length % (shards * TPU_LANES):
    return f"{length} queries are not a multiple of {TPU_LANES} on each of {shards} devices"
  return heads_error(spec)


def make_mask(pattern: Pattern, query_length: int, key_length: int) -> None:
  """Returns None: the kernel computes its masks itself, block by block."""
  del pattern, query_length, key_length


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  inputs: AttentionInputs,
  scale: float,
  soft_cap: float | None,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Computes attention as `attention.attend` does; `interpret` runs it slowly without a TPU."""
  pattern = inputs.pattern
  L, S = query.shape[1], key.shape[1]
  key, value = (repeat_key_heads(x, query.shape[2]) for x in (key, value))
  query, key, value = (
    _padded(x.swapaxes(1, 2), 2, 0) for x in ((query * scale).astype(query.dtype), key, value)
  )
  shape = (query.shape[2], key.shape[2])
  ids = _segment_ids(pattern, query.shape[0], (L, S))
  compute = functools.partial(_compute, query, key, value, soft_cap=soft_cap, interpret=interpret)
  out = compute(ids, _block_mask(pattern, shape))
  if pattern.prefix is not None:
    # A prefix starts its document, so its queries see the prefix in both directions, nothing else.
    prefix = _padded(pattern.prefix.astype(bool), 1, False)
    queries, keys = ids or (jnp.ones_like(prefix, jnp.int32),) * 2
    both_ways = _block_mask(pattern.replace(causal=False), shape)
    within = compute((queries, jnp.where(prefix, keys, -1)), both_ways)
    out = jnp.where(prefix[:, None, :, None], within, out)
  return out.swapaxes(1, 2)[:, :L]


def _compute(query, key, value, ids, mask, *, soft_cap, interpret):
  """Runs the kernel on each device's rows, heads and queries.

  Query [B, N, L, H], key and value [B, K, S, H] -> [B, N, L, H].
  """
  _, head_shards, shards, _ = num_shards(_QUERIES)
  if isinstance(mask, masks.FullMask):  # The mask is the same for every part of the queries.
    mask, shards = masks.FullMask((mask.shape[0] // shards, mask.shape[1])), 1
  kernel = splash.make_splash_mha(
    splash.MultiHeadMask([mask] * (query.shape[1] // head_shards)),
    head_shards=1,
    q_seq_shards=shards,
    block_sizes=_block_sizes(mask.shape[0] // shards, mask.shape[1]),
    attn_logits_soft_cap=soft_cap,
    residual_checkpoint_name=OUTPUT_NAME,
    interpret=interpret,
  )

  def on_device(kernel, query, key, value, query_ids, key_ids):
    ids = None if query_ids is None else splash.SegmentIds(query_ids, key_ids)
    return jax.vmap(kernel)(query, key, value, ids)

  kernel_spec = partition_spec((None, "length" if shards > 1 else None))
  if kernel_spec is not None:
    sharding = NamedSharding(jax.sharding.get_abstract_mesh(), kernel_spec)
    kernel_spec = kernel.manual_sharding_spec(sharding)
  names = (None, None) if ids is None else (("batch", "length"), ("batch", None))
  on_all = on_each_device(on_device, (kernel_spec, _QUERIES, _KEYS, _KEYS, *names), _QUERIES)
  return on_all(kernel, query, key, value, *(ids or (None, None)))


def _block_mask(pattern, shape):
  if pattern.window is not None:
    return masks.LocalMask(shape, (pattern.window, 0 if pattern.causal else pattern.window), 0)
  return masks.CausalMask(shape) if pattern.causal else masks.FullMask(shape)


def _segment_ids(pattern, rows, lengths):
  """Returns padded segment ids of queries [B, L] and keys [B, S]; None if every key is seen."""
  queries, keys = pattern.query_segments, pattern.key_segments
  if keys is None and lengths[1] % TPU_LANES == 0:
    return None
  if queries is None:
    queries = jnp.ones((rows, lengths[0]), jnp.int32)
    hidden = False if keys is None else keys == 0
    keys = jnp.where(hidden, -1, jnp.ones((rows, lengths[1]), jnp.int32))
  return _padded(queries, 1, 0), _padded(keys, 1, -1)


def _padded(x, axis, value):
  """Pads an axis to a multiple of TPU_LANES."""
  pad = [(0, 0)] * x.ndim
  pad[axis] = (0, -x.shape[axis] % TPU_LANES)
  return jnp.pad(x, pad, constant_values=value) if pad[axis][1] else x


def _block_sizes(queries, keys):
  q, kv = (next(size for size in _BLOCK_SIZES if n % size == 0) for n in (queries, keys))
  return splash.BlockSizes(
    block_q=q, block_kv=kv, block_q_dkv=q, block_kv_dkv=kv, block_q_dq=q, block_kv_dq=kv
  )
