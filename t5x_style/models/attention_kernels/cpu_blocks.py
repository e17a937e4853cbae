"""Attention block by block, for CPUs: plain operations on logits that stay in the caches.

The logits [B, N, L, S] of a batch are far larger than a CPU's caches: computed as one array, they
would go through memory once for each of a dozen operations. Here a loop goes over blocks of logits.
A block is one head of one row, or several heads and rows if they fit; long rows are computed in
parts, which leave out keys that a causal pattern or a window hides from all of their queries. The
loop keeps nothing of a block but the softmax's maximum and sum: the backward pass recomputes the
weights (Dao 2022, FlashAttention, section 3.1). For a batch of a few rows the loop is unrolled: a
block is one row, and its weights are kept.

Queries that see no key give zeros and no gradient.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.models.attention_kernels import xla
from t5x_style.models.attention_kernels.head_sharding import heads_error, repeat_key_heads
from t5x_style.models.attention_kernels.pattern import AttentionInputs, AttentionSpec, Pattern
from t5x_style.partitioning.active_mesh import num_shards, on_each_device
from t5x_style.soft_cap import soft_cap_slope, soft_capped

# Measured only on two cores with 512 KiB of cache each and 32 MiB for both.
_CACHE_BYTES = 2**23  # Blocks are no faster for up to this many bytes of a batch's logits.
_BLOCK_BYTES = 2**20  # logits of a block, in a loop
_MOST_UNROLLED, _UNROLLED_BYTES = 8, 2**24  # rows of an unrolled batch, and the logits of a row
_MOST_UNROLLED_PARTS = 32  # of all rows together
_FEWEST_QUERIES, _MOST_PARTS = 128, 8  # queries of a part, and parts of a row

_BY_HEADS = ("batch", None, "heads", None)

# "query" [B, L, N, H], "key" and "value" [B, S, K, H]; if there is one, "bias" [1, N, L, S], and if
# there is one, "mask" [B or 1, 1, L or 1, S].
_Arrays = dict[str, jax.Array]

PLATFORM, TITLE = "cpu", "attention by blocks"
PATTERN_FIELDS = frozenset(
  {"query_segments", "key_segments", "prefix", "query_start", "causal", "window"}
)

make_mask = xla.make_mask


def reason_against(spec: AttentionSpec) -> str | None:
  """Returns why this kernel cannot compute this, or None if it can."""
  if num_shards(("batch", "length"))[1] > 1:
    return "attention by blocks cannot split the length over devices"
  return heads_error(spec)


def pays(spec: AttentionSpec) -> bool:
  """Returns whether blocks are faster: logits do not fit the caches and rows are long enough."""
  (B, L, N, _), (_, S, K, _) = spec.queries, spec.keys
  rows, heads = num_shards(("batch", "heads"))
  if 4 * B * N * L * S <= _CACHE_BYTES * rows * heads:
    return False
  computed = sum(
    (part.end_query - part.first_query) * (part.end_key - part.first_key)
    for part in _parts(spec.pattern, L, S, N // K)
  )
  return 4 * L * S >= _BLOCK_BYTES // 2 or computed < 0.8 * L * S


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  inputs: AttentionInputs,
  scale: float,
  soft_cap: float | None,
) -> jax.Array:
  """Computes attention as `attention.attend` does."""
  pattern, mask, bias = inputs.pattern, inputs.mask, inputs.bias
  L, S = query.shape[1], key.shape[1]
  key, value = (repeat_key_heads(x, query.shape[2]) for x in (key, value))
  arrays = {"query": (query * scale).astype(query.dtype), "key": key, "value": value}
  names: dict[str, Any] = dict.fromkeys(arrays, _BY_HEADS)
  if bias is not None:
    arrays["bias"], names["bias"] = bias, (None, "heads", None, None)
  if mask is not None:
    arrays["mask"] = mask
    names["mask"] = ("batch" if mask.shape[0] > 1 else None, None, None, None)
  parts = _parts(pattern, L, S, query.shape[2] // key.shape[2])
  on_device = functools.partial(_attend, soft_cap, parts)
  return on_each_device(on_device, (names,), _BY_HEADS)(arrays)


class _Part(NamedTuple):
  """A range of a row's queries, and the range of keys that any of them sees; ends are exclusive."""

  first_query: int
  end_query: int
  first_key: int
  end_key: int

  @property
  def queries(self) -> slice:
    return slice(self.first_query, self.end_query)

  @property
  def keys(self) -> slice:
    return slice(self.first_key, self.end_key)


def _parts(pattern: Pattern, L: int, S: int, group: int) -> tuple[_Part, ...]:
  """Cuts a row into parts that leave out keys that a causal pattern or a window hides.

  The logits of a part, of one key head with its group of query heads, are about one block.
  """
  left = right = pattern.window
  if pattern.causal and pattern.prefix is None:
    right = 0
  if L != S or pattern.query_start is not None:
    left = right = None
  count = 4 * group * L * S // (2 * _BLOCK_BYTES)
  if left is not None or right is not None:
    count = L // _FEWEST_QUERIES
  count = max(1, min(count, L // _FEWEST_QUERIES, _MOST_PARTS))
  bounds = [L * i // count for i in range(count + 1)]
  return tuple(
    _Part(
      start,
      end,
      0 if left is None else max(0, start - left),
      S if right is None else min(S, end + right),
    )
    for start, end in itertools.pairwise(bounds)
  )


class _Static(NamedTuple):
  """The compile-time parameters of the kernel."""

  soft_cap: float | None
  parts: tuple[_Part, ...]
  key_heads: int  # of a block
  rows: int  # of a block
  unrolled: bool  # whether the loop over blocks is unrolled and the weights are kept


def _static(soft_cap, parts, arrays):
  (B, L, N, _), (_, S, K, _) = arrays["query"].shape, arrays["key"].shape
  bytes_per_row = 4 * N * L * S
  few = B <= _MOST_UNROLLED and B * len(parts) <= _MOST_UNROLLED_PARTS
  if few and bytes_per_row <= _UNROLLED_BYTES:
    return _Static(soft_cap, parts, K, 1, True)
  key_heads = _divisor(K, _BLOCK_BYTES * K // bytes_per_row)
  rows = _divisor(B, _BLOCK_BYTES // bytes_per_row) if key_heads == K else 1
  return _Static(soft_cap, parts, key_heads, rows, False)


def _divisor(number: int, most: int) -> int:
  """Returns the largest divisor of a number that is at most `most`, and at least 1."""
  return next((d for d in range(min(number, most), 1, -1) if number % d == 0), 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(soft_cap: float | None, parts: tuple[_Part, ...], arrays: _Arrays) -> jax.Array:
  """Computes attention block by block on one device's arrays; returns [B, L, N, H]."""
  return _attend_forward(soft_cap, parts, arrays)[0]


def _attend_forward(soft_cap, parts, arrays):
  """Returns _attend's output, and what the backward pass needs."""
  static = _static(soft_cap, parts, arrays)

  def block(_, inputs):
    outs, kept = [], []
    for part in static.parts:
      logits, raw = _logits(static, part, inputs)
      highest = logits.max(-1, keepdims=True)
      weights = jnp.exp(logits - highest)
      share = jnp.where(highest > xla.HIDDEN, 1 / weights.sum(-1, keepdims=True), 0.0)
      outs.append(_mean(weights, inputs["value"][..., part.keys, :]) * share)
      weights = weights.astype(inputs["value"].dtype)
      kept.append((share, weights, raw) if static.unrolled else (share, highest))
    return None, (jnp.concatenate(outs, -2), kept)

  _, outs = _over_blocks(static, block, lambda _: None, _cut(static, arrays))
  out, kept = _stacked(0, outs), [x[1] for x in outs] if static.unrolled else outs[1]
  out = _whole(out).astype(arrays["query"].dtype)
  return out, (arrays, out, kept)


def _attend_backward(soft_cap, parts, residuals, by_out):
  """Returns the gradients of _attend's arrays, given that of its output; None for the mask."""
  arrays, out, kept = residuals
  static = _static(soft_cap, parts, arrays)
  mean = (by_out.astype(jnp.float32) * out).sum(-1, keepdims=True)
  cut = _cut(static, arrays | {"by_out": by_out, "mean": mean})
  block = functools.partial(_block_gradients, static)
  by_bias, found = _over_blocks(static, block, _zero_bias_gradient, cut, kept)
  by_query, by_key, by_value = (_stacked(i, found) for i in range(3))
  gradients = {
    "query": _whole(by_query),
    "key": _whole(by_key.swapaxes(-1, -2)[:, :, :, :, None]),
    "value": _whole(by_value.swapaxes(-1, -2)[:, :, :, :, None]),
  }
  if by_bias is not None:
    gradients["bias"] = by_bias.reshape(arrays["bias"].shape)
  return ({k: gradients[k].astype(x.dtype) if k in gradients else None for k, x in arrays.items()},)


_attend.defvjp(_attend_forward, _attend_backward)


def _zero_bias_gradient(inputs):
  return jnp.zeros(inputs["bias"].shape, jnp.float32) if "bias" in inputs else None


def _block_gradients(static, by_bias, inputs):
  """Returns the bias' gradient plus that of a block, and those of its queries, keys and values."""
  by_query, by_keys, by_values, by_biases = [], [], [], []
  for part, (share, *rest) in zip(static.parts, inputs["kept"], strict=True):
    if static.unrolled:
      weights, raw = rest
    else:
      logits, raw = _logits(static, part, inputs)
      weights = jnp.exp(logits - rest[0])
    query, by_out, mean = (
      inputs[name][..., part.queries, :] for name in ("query", "by_out", "mean")
    )
    key, value = (inputs[name][..., part.keys, :] for name in ("key", "value"))
    # The weights are not divided by their sum; instead, what they are multiplied with is.
    by_out = (by_out * share).astype(by_out.dtype)
    by_logits = weights * (_products(by_out, value) - mean * share)
    by_biases.append(by_logits)
    if raw is not None:
      by_logits *= soft_cap_slope(raw, static.soft_cap)
    by_query.append(_mean(by_logits, key))
    by_keys.append(_sum(by_logits, query))
    by_values.append(_sum(weights, by_out))
  S = inputs["key"].shape[-2]
  by_key, by_value = (_added(static, S, x) for x in (by_keys, by_values))
  if by_bias is not None:
    rows = [x.sum(0) for x in by_biases]
    by_bias += jnp.concatenate([_padded(S, *x) for x in zip(static.parts, rows, strict=True)], -2)
  return by_bias, (jnp.concatenate(by_query, -2), by_key, by_value)


def _cut(static: _Static, arrays: _Arrays) -> _Arrays:
  """Cuts arrays into blocks of k key heads, each with G query heads, and r rows.

  Queries become [K / k, B / r, r, k, G, L, H], keys and values [K / k, B / r, r, k, S, H], the bias
  [K / k, k, G, L, S], the mask [B / r, r, 1, 1, L or 1, S] or, if all rows have the same one,
  [1, 1, 1, 1, L or 1, S].
  """
  K = arrays["key"].shape[2]
  cut = {}
  for name, x in arrays.items():
    if name == "bias":
      cut[name] = x.reshape(K // static.key_heads, static.key_heads, -1, *x.shape[2:])
    elif name == "mask":
      rows = static.rows if x.shape[0] > 1 else 1
      cut[name] = x.reshape(-1, rows, 1, 1, *x.shape[2:])
    else:
      B, L, N, H = x.shape
      x = x.reshape(
        B // static.rows, static.rows, L, K // static.key_heads, static.key_heads, N // K, H
      )
      x = x.transpose(3, 0, 1, 4, 5, 2, 6)
      cut[name] = x.squeeze(4) if name in ("key", "value") else x
  return cut


def _whole(x: jax.Array) -> jax.Array:
  """Undoes _cut: [K / k, B / r, r, k, G, L, H] -> [B, L, N, H]."""
  x = x.transpose(1, 2, 5, 0, 3, 4, 6)
  return x.reshape(x.shape[0] * x.shape[1], x.shape[2], -1, x.shape[-1])


def _over_blocks(static, block, start, cut, kept=None):
  """Calls block(sum, inputs) -> (sum, output) for all blocks; a sum is over the rows of some heads.

  Args:
    start: returns the initial sum, given the inputs of some heads.
    kept: what the forward pass kept of each block, added to its inputs as "kept".

  Returns:
    The sums [K / k, ...] and the outputs, stacked [K / k, B / r, ...], or as a list if unrolled.
  """
  of_heads = {name: x for name, x in cut.items() if name != "mask"}
  shared, of_rows = {}, {}
  if "mask" in cut:
    mask = cut["mask"]
    if mask.shape[0] == 1:
      shared["mask"] = mask[0]
    else:
      of_rows["mask"] = mask
  if static.unrolled:
    inputs = {name: x[0] for name, x in of_heads.items()}
    total, outs = start(inputs), []
    for i in range(inputs["query"].shape[0]):
      row = {name: x if name == "bias" else x[i] for name, x in (inputs | of_rows).items()}
      total, out = block(total, row | shared | {"kept": kept and kept[i]})
      outs.append(out)
    return total, outs
  of_heads["kept"] = kept

  def rows(_, inputs):
    bias = {"bias": inputs.pop("bias")} if "bias" in inputs else {}
    body = lambda total, x: block(total, {**x, **shared, **bias})
    return None, jax.lax.scan(body, start(bias), {**inputs, **of_rows})

  return jax.lax.scan(rows, None, of_heads)[1]


def _stacked(i, found):
  """Returns entry i of the outputs of _over_blocks, stacked [K / k, B / r, ...]."""
  return jnp.stack([x[i] for x in found])[None] if isinstance(found, list) else found[i]


def _logits(static, part, inputs):
  """Returns float32 logits [r, k, G, queries, keys], and the uncapped ones or None."""
  logits = _products(inputs["query"][..., part.queries, :], inputs["key"][..., part.keys, :])
  raw = None
  if static.soft_cap is not None:
    raw, logits = logits, soft_capped(logits, static.soft_cap)
  if "bias" in inputs:
    logits += inputs["bias"][..., part.queries, part.keys].astype(jnp.float32)
  if "mask" in inputs:
    mask = inputs["mask"][..., part.keys]
    mask = mask if mask.shape[-2] == 1 else mask[..., part.queries, :]
    logits = jnp.where(mask, logits, xla.HIDDEN)
  return logits, raw


# In these products, the queries of all heads of a group are rows of one matrix.


def _products(x, y):
  """[r, k, G, L, H] and [r, k, S, H] -> [r, k, G, L, S]."""
  r, k, G, L, H = x.shape
  z = jnp.einsum(
    "rkih,rkjh->rkij", x.reshape(r, k, G * L, H), y, preferred_element_type=jnp.float32
  )
  return z.reshape(r, k, G, L, -1)


def _mean(weights, y):
  """[r, k, G, L, S] and [r, k, S, H] -> [r, k, G, L, H]."""
  r, k, G, L, S = weights.shape
  weights = weights.reshape(r, k, G * L, S).astype(y.dtype)
  z = jnp.einsum("rkij,rkjh->rkih", weights, y, preferred_element_type=jnp.float32)
  return z.reshape(r, k, G, L, -1)


def _sum(weights, x):
  """[r, k, G, L, S] and [r, k, G, L, H] -> [r, k, H, S].

  The result has H before S because the product is a third faster with weights on the right.
  """
  r, k, G, L, S = weights.shape
  weights = weights.reshape(r, k, G * L, S).astype(x.dtype)
  x = x.reshape(r, k, G * L, -1)
  return jnp.einsum("rkih,rkij->rkhj", x, weights, preferred_element_type=jnp.float32)


def _padded(S, part, x):
  """Adds zeros for the keys that a part leaves out: [..., keys] -> [..., S]."""
  return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(part.first_key, S - part.end_key)])


def _added(static, S, parts):
  """Returns the sum over parts, each padded to all keys: [..., S]."""
  return sum(_padded(S, *x) for x in zip(static.parts, parts, strict=True))
