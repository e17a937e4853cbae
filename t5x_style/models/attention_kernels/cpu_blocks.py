"""Attention block by block, for CPUs: plain operations on logits that stay in the caches.

The logits [B, N, L, S] of a batch are far larger than a CPU's caches, and written whole they go
through memory once for each of a dozen operations. Here a block is a head of a row, in parts where
it is long, or as many heads and rows as fit together. Causal patterns and windows leave out keys
that no query of a part sees. Loops go over blocks and keep nothing of them: the backward pass makes
the weights anew from queries, keys and the softmax's maximum and sum (Dao 2022, FlashAttention,
section 3.1). A batch of a few rows is not looped over: a row is a block, and its weights are kept.

Queries that see no key give zeros, and no gradient.
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

# Measured on two cores with 512 KiB of cache each and 32 MiB for both, on nothing larger.
_CACHE_BYTES = 2**23  # of logits of the whole batch: no gain up to these
_BLOCK_BYTES = 2**20  # of logits at a time, where there are many blocks
_MOST_UNROLLED, _UNROLLED_BYTES = 8, 2**24  # rows of a batch, and logits of each
_MOST_UNROLLED_PARTS = 32  # of all rows
_FEWEST_QUERIES, _MOST_PARTS = 128, 8  # of a row

_BY_HEADS = ("batch", None, "heads", None)

# query [B, L, N, H], key and value [B, S, K, H]; where there are any, bias [1, N, L, S] and mask
# [B or 1, 1, L or 1, S].
_Arrays = dict[str, jax.Array]

PLATFORM, TITLE = "cpu", "attention by blocks"

make_mask = xla.make_mask


def reason_against(spec: AttentionSpec) -> str | None:
  """Returns why this kernel cannot compute this, or None if it can."""
  if num_shards(("batch", "length"))[1] > 1:
    return "attention by blocks cannot split the length over devices"
  return heads_error(spec)


def pays(spec: AttentionSpec) -> bool:
  """Whether a device's logits are too many for its caches, and rows long enough for blocks."""
  (B, L, N, _), (_, S, K, _) = spec.queries, spec.keys
  rows, heads = num_shards(("batch", "heads"))
  if 4 * B * N * L * S <= _CACHE_BYTES * rows * heads:
    return False
  computed = sum(
    (part.last_query - part.first_query) * (part.last_key - part.first_key)
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
  """As `attention.attend`."""
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
  run = functools.partial(_attend, soft_cap, _parts(pattern, L, S, query.shape[2] // key.shape[2]))
  return on_each_device(run, (names,), _BY_HEADS)(arrays)


class _Part(NamedTuple):
  """Queries of a row, from the first to before the last, and the keys that any of them sees."""

  first_query: int
  last_query: int
  first_key: int
  last_key: int

  @property
  def queries(self) -> slice:
    return slice(self.first_query, self.last_query)

  @property
  def keys(self) -> slice:
    return slice(self.first_key, self.last_key)


def _parts(pattern: Pattern, L: int, S: int, group: int) -> tuple[_Part, ...]:
  """A row cut so that its parts leave out what a causal pattern or a window hides from them.

  And so that the logits of a key head, with its group of query heads, are blocks or little more.
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


class _Form(NamedTuple):
  """What a program is made for."""

  soft_cap: float | None
  parts: tuple[_Part, ...]
  key_heads: int  # of a block
  rows: int
  unrolled: bool  # blocks one after the other in the program, and their weights kept


def _form(soft_cap, parts, arrays):
  (B, L, N, _), (_, S, K, _) = arrays["query"].shape, arrays["key"].shape
  bytes_per_row = 4 * N * L * S
  few = B <= _MOST_UNROLLED and B * len(parts) <= _MOST_UNROLLED_PARTS
  if few and bytes_per_row <= _UNROLLED_BYTES:
    return _Form(soft_cap, parts, K, 1, True)
  key_heads = _divisor(K, _BLOCK_BYTES * K // bytes_per_row)
  rows = _divisor(B, _BLOCK_BYTES // bytes_per_row) if key_heads == K else 1
  return _Form(soft_cap, parts, key_heads, rows, False)


def _divisor(number: int, most: int) -> int:
  """The largest divisor of a number up to `most`; 1 at least."""
  return next((d for d in range(min(number, most), 1, -1) if number % d == 0), 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(soft_cap: float | None, parts: tuple[_Part, ...], arrays: _Arrays) -> jax.Array:
  """[B, L, N, H]."""
  return _attend_forward(soft_cap, parts, arrays)[0]


def _attend_forward(soft_cap, parts, arrays):
  form = _form(soft_cap, parts, arrays)

  def block(_, inputs):
    outs, kept = [], []
    for part in form.parts:
      logits, raw = _logits(form, part, inputs)
      highest = logits.max(-1, keepdims=True)
      weights = jnp.exp(logits - highest)
      share = jnp.where(highest > xla.HIDDEN, 1 / weights.sum(-1, keepdims=True), 0.0)
      outs.append(_mean(weights, inputs["value"][..., part.keys, :]) * share)
      weights = weights.astype(inputs["value"].dtype)
      kept.append((share, weights, raw) if form.unrolled else (share, highest))
    return None, (jnp.concatenate(outs, -2), kept)

  _, outs = _over_blocks(form, block, lambda _: None, _cut(form, arrays))
  out, kept = _stacked(0, outs), [x[1] for x in outs] if form.unrolled else outs[1]
  out = _whole(out).astype(arrays["query"].dtype)
  return out, (arrays, out, kept)


def _attend_backward(soft_cap, parts, residuals, by_out):
  arrays, out, kept = residuals
  form = _form(soft_cap, parts, arrays)
  mean = (by_out.astype(jnp.float32) * out).sum(-1, keepdims=True)
  cut = _cut(form, arrays | {"by_out": by_out, "mean": mean})

  def block(by_bias, inputs):
    by_query, by_keys, by_values, by_biases = [], [], [], []
    for part, (share, *rest) in zip(form.parts, inputs["kept"], strict=True):
      if form.unrolled:
        weights, raw = rest
      else:
        logits, raw = _logits(form, part, inputs)
        weights = jnp.exp(logits - rest[0])
      query, by_out, mean = (
        inputs[name][..., part.queries, :] for name in ("query", "by_out", "mean")
      )
      key, value = (inputs[name][..., part.keys, :] for name in ("key", "value"))
      # Weights are not divided by their sum: what they are multiplied with is.
      by_out = (by_out * share).astype(by_out.dtype)
      by_logits = weights * (_products(by_out, value) - mean * share)
      by_biases.append(by_logits)
      if raw is not None:
        by_logits *= soft_cap_slope(raw, form.soft_cap)
      by_query.append(_mean(by_logits, key))
      by_keys.append(_sum(by_logits, query))
      by_values.append(_sum(weights, by_out))
    S = inputs["key"].shape[-2]
    by_key, by_value = (_added(form, S, x) for x in (by_keys, by_values))
    if by_bias is not None:
      rows = [x.sum(0) for x in by_biases]
      by_bias += jnp.concatenate([_padded(S, *x) for x in zip(form.parts, rows, strict=True)], -2)
    return by_bias, (jnp.concatenate(by_query, -2), by_key, by_value)

  def zeros(inputs):
    return jnp.zeros(inputs["bias"].shape, jnp.float32) if "bias" in inputs else None

  by_bias, found = _over_blocks(form, block, zeros, cut, kept)
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


def _cut(form: _Form, arrays: _Arrays) -> _Arrays:
  """Arrays in blocks: [K / k, B / r, r, k, G, L, H], of keys [K / k, B / r, r, k, S, H].

  A block has k key heads, each with G query heads, and r rows. The bias is [K / k, k, G, L, S], the
  mask [B / r, r, 1, 1, L or 1, S], or [1, 1, 1, 1, L or 1, S] where all rows have the same.
  """
  K = arrays["key"].shape[2]
  cut = {}
  for name, x in arrays.items():
    if name == "bias":
      cut[name] = x.reshape(K // form.key_heads, form.key_heads, -1, *x.shape[2:])
    elif name == "mask":
      rows = form.rows if x.shape[0] > 1 else 1
      cut[name] = x.reshape(-1, rows, 1, 1, *x.shape[2:])
    else:
      B, L, N, H = x.shape
      x = x.reshape(B // form.rows, form.rows, L, K // form.key_heads, form.key_heads, N // K, H)
      x = x.transpose(3, 0, 1, 4, 5, 2, 6)
      cut[name] = x.squeeze(4) if name in ("key", "value") else x
  return cut


def _whole(x: jax.Array) -> jax.Array:
  """[K / k, B / r, r, k, G, L, H] -> [B, L, N, H]."""
  x = x.transpose(1, 2, 5, 0, 3, 4, 6)
  return x.reshape(x.shape[0] * x.shape[1], x.shape[2], -1, x.shape[-1])


def _over_blocks(form, block, start, cut, kept=None):
  """Calls block(sum, inputs) for all heads and rows: the sums over rows, and what else it returns.

  Args:
    start: makes a sum of the inputs of some heads.
    kept: what the forward pass kept of blocks, handed to them.

  Returns:
    sums [K / k, ...], and what else, stacked [K / k, B / r, ...] or a list of blocks if unrolled.
  """
  of_heads = {name: x for name, x in cut.items() if name != "mask"}
  shared, of_rows = {}, {}
  if "mask" in cut:
    mask = cut["mask"]
    if mask.shape[0] == 1:
      shared["mask"] = mask[0]
    else:
      of_rows["mask"] = mask
  if form.unrolled:
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
  """Entry i of what `_over_blocks` found, [K / k, B / r, ...]."""
  return jnp.stack([x[i] for x in found])[None] if isinstance(found, list) else found[i]


def _logits(form, part, inputs):
  """[r, k, G, queries, keys] in float32; and before a soft cap, or None without one."""
  logits = _products(inputs["query"][..., part.queries, :], inputs["key"][..., part.keys, :])
  raw = None
  if form.soft_cap is not None:
    raw, logits = logits, soft_capped(logits, form.soft_cap)
  if "bias" in inputs:
    logits += inputs["bias"][..., part.queries, part.keys].astype(jnp.float32)
  if "mask" in inputs:
    mask = inputs["mask"][..., part.keys]
    mask = mask if mask.shape[-2] == 1 else mask[..., part.queries, :]
    logits = jnp.where(mask, logits, xla.HIDDEN)
  return logits, raw


# A group's queries are rows of one product.


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

  H first: with the weights as the right operand the product takes two thirds of the time.
  """
  r, k, G, L, S = weights.shape
  weights = weights.reshape(r, k, G * L, S).astype(x.dtype)
  x = x.reshape(r, k, G * L, -1)
  return jnp.einsum("rkih,rkij->rkhj", x, weights, preferred_element_type=jnp.float32)


def _padded(S, part, x):
  """Zeros for the keys that a part leaves out, on the last axis."""
  return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(part.first_key, S - part.last_key)])


def _added(form, S, parts):
  return sum(_padded(S, *x) for x in zip(form.parts, parts, strict=True))
