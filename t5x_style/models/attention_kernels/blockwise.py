"""Attention of blocks of queries to blocks of keys: what ring attention and long rows consist of.

A softmax over all keys is put together from softmaxes over some of them, given the logarithm of
the sum of exponentials of each (Rabe & Staats 2021; Liu et al. 2023, section 3). `forward` and
`backward` compute such a part for one pair of blocks after the other, and hold only the logits of
one pair. Pairs in which no query sees a key are left out. Queries that see no key give zeros and no
gradient.

Queries are a dictionary of
  "query" [n, B, K, G, q, H]: n blocks of q queries, in K groups of G heads, already scaled;
  "start" [n]: the position in the row of the first query of each block;
and, if there are any, "segments" and "prefix" [n, B, q], as in Pattern. `backward` also needs
"by_out", the gradient of the output, and "lse" and "mean" [n, B, K, G, q]. Keys are a dictionary of
"key" and "value" [m, B, K, k, H], "start" [m], and "segments" and "prefix" [m, B, k].

A bias is given by distance, [K G, 2 R + 1] in float32, of keys from R places before their query to
R places after it. Keys that are further away have the bias of the nearest of these. So there is no
bias of the logits' size, and no gradient of that size.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.soft_cap import soft_cap_slope, soft_capped

# The log-sum-exp of queries that have seen no key, and hidden logits: far below any real one.
NOTHING = -1e30

Blocks = dict[str, jax.Array]


class Rules(NamedTuple):
  """What is the same for all pairs of blocks: the static fields of a Pattern, and the soft cap."""

  causal: bool
  window: int | None
  soft_cap: float | None


class Gradients(NamedTuple):
  """Gradients in float32, with the shapes of what they are of."""

  query: jax.Array
  key: jax.Array
  value: jax.Array
  bias: jax.Array | None


def cut(x: jax.Array, block: int) -> jax.Array:
  """Cuts rows into blocks: [B, L] -> [n, B, block]; the block size divides L."""
  return x.reshape(x.shape[0], -1, block).swapaxes(0, 1)


def cut_heads(x: jax.Array, block: int, groups: int) -> jax.Array:
  """Cuts queries into blocks, with heads in front: [B, L, N, H] -> [n, B, K, G, block, H]."""
  B, _, N, H = x.shape
  return x.reshape(B, -1, block, groups, N // groups, H).transpose(1, 0, 3, 4, 2, 5)


def whole(x: jax.Array) -> jax.Array:
  """Undoes `cut_heads`: [n, B, K, G, block, H] -> [B, L, N, H]."""
  n, B, K, G, block, H = x.shape
  return x.transpose(1, 0, 4, 2, 3, 5).reshape(B, n * block, K * G, H)


def merge(
  one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Merges attention to some keys with that to others; each is (output [..., H], lse [...])."""
  lse = jnp.logaddexp(one[1], other[1])
  shares = (jnp.exp(x[1] - lse)[..., None] for x in (one, other))
  return one[0] * next(shares) + other[0] * next(shares), lse


def forward(
  rules: Rules, queries: Blocks, keys: Blocks, bias: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """Attends to these keys: returns outputs like "query" and their lse [n, B, K, G, q], float32.

  lse is the logarithm of the sum of the exponentials of a query's logits, or NOTHING if it sees no
  key.
  """

  def add(query, state, key):
    def added(state):
      highest, total, out = state
      logits, _ = _logits(rules, query, key, bias)
      now = jnp.maximum(highest, logits.max(-1))
      weights, shrinks = _weights(logits, now), jnp.exp(highest - now)
      total = total * shrinks + weights.sum(-1)
      return now, total, out * shrinks[..., None] + _mean(weights, key["value"])

    return jax.lax.cond(any_seen(rules, query, key), added, lambda state: state, state), None

  def of_block(query):
    shape = query["query"].shape
    start = (jnp.full(shape[:-1], NOTHING), jnp.zeros(shape[:-1]), jnp.zeros(shape))
    (highest, total, out), _ = jax.lax.scan(functools.partial(add, query), start, keys)
    total, seen = jnp.where(total > 0, total, 1.0), total > 0
    return out / total[..., None], jnp.where(seen, highest + jnp.log(total), NOTHING)

  return jax.lax.map(of_block, queries)


def backward(rules: Rules, queries: Blocks, keys: Blocks, bias: jax.Array | None) -> Gradients:
  """Returns the gradients through the attention to these keys.

  "lse" is that of each query's softmax over all keys, and "mean" the sum of its output times the
  gradient of the output (Dao 2022, FlashAttention, appendix B.2): this part needs nothing else of
  the other keys.
  """

  def add(query, state, of_key):
    key, by_key, by_value = of_key

    def added(sums):
      by_query, by_bias, by_key, by_value = sums
      logits, raw = _logits(rules, query, key, bias)
      weights = _weights(logits, query["lse"])
      by_logits = weights * (_products(query["by_out"], key["value"]) - query["mean"][..., None])
      if by_bias is not None:
        by_bias += _bias_gradient(bias, query, key, by_logits)
      if raw is not None and rules.soft_cap is not None:
        by_logits *= soft_cap_slope(raw, rules.soft_cap)
      by_query += _mean(by_logits, key["key"])
      by_key += _sum(by_logits, query["query"])
      return by_query, by_bias, by_key, by_value + _sum(weights, query["by_out"])

    sums = (*state, by_key, by_value)
    seen = any_seen(rules, query, key)
    by_query, by_bias, by_key, by_value = jax.lax.cond(seen, added, lambda sums: sums, sums)
    return (by_query, by_bias), (by_key, by_value)

  def of_block(state, query):
    by_bias, by_key, by_value = state
    start = (jnp.zeros(query["query"].shape), by_bias)
    (by_query, by_bias), by_keys = jax.lax.scan(
      functools.partial(add, query), start, (keys, by_key, by_value)
    )
    return (by_bias, *by_keys), by_query

  by_bias = None if bias is None else jnp.zeros(bias.shape)
  start = by_bias, jnp.zeros(keys["key"].shape), jnp.zeros(keys["value"].shape)
  (by_bias, by_key, by_value), by_query = jax.lax.scan(of_block, start, queries)
  return Gradients(by_query, by_key, by_value, by_bias)


def any_seen(rules: Rules, query: Blocks, key: Blocks) -> jax.Array:
  """Returns whether a query of one block may see a key of another: never false if one does."""
  first_query, first_key = query["start"], key["start"]
  last_query = first_query + query["query"].shape[-2] - 1
  last_key = first_key + key["key"].shape[-2] - 1
  seen = jnp.bool_(True)
  if rules.causal:
    seen = first_key <= last_query
    if "prefix" in query:
      seen |= (query["prefix"].any(-1) & key["prefix"].any(-1)).any()
  if rules.window is not None:
    seen &= (first_key - last_query <= rules.window) & (first_query - last_key <= rules.window)
  if "segments" in key:
    ids = key["segments"]
    if "segments" in query:
      # Documents follow each other, so their ids in a block are a range.
      own, lowest = query["segments"], jnp.where(ids == 0, jnp.iinfo(ids.dtype).max, ids).min(-1)
      seen &= ((lowest <= own.max(-1)) & (own.min(-1) <= ids.max(-1))).any()
    else:
      seen &= (ids != 0).any()
  return seen


def _seen(rules, query, key):
  """Returns which keys are seen, [B or 1, q or 1, k], as Pattern.mask; None if all are."""
  conditions = []
  if rules.causal or rules.window is not None:
    places = [
      block["start"] + jnp.arange(size)
      for block, size in ((query, query["query"].shape[-2]), (key, key["key"].shape[-2]))
    ]
    distance = (places[1] - places[0][:, None])[None]
  if rules.causal:
    seen = distance <= 0
    if "prefix" in query:
      both = query["prefix"].astype(bool)[:, :, None] & key["prefix"].astype(bool)[:, None]
      seen |= both
    conditions.append(seen)
  if rules.window is not None:
    conditions.append(jnp.abs(distance) <= rules.window)
  if "segments" in key:
    ids = key["segments"][:, None]
    conditions.append(ids != 0)
    if "segments" in query:
      conditions.append(ids == query["segments"][:, :, None])
  return functools.reduce(jnp.logical_and, conditions) if conditions else None


def _logits(rules, query, key, bias):
  """Returns float32 logits [B, K, G, q, k] of a pair of blocks, and the uncapped ones or None."""
  logits, raw = _products(query["query"], key["key"]), None
  if rules.soft_cap is not None:
    raw, logits = logits, soft_capped(logits, rules.soft_cap)
  if bias is not None:
    logits += _bias_of_pair(bias, query, key).reshape(1, *logits.shape[1:])
  seen = _seen(rules, query, key)
  if seen is not None:
    logits = jnp.where(seen[:, None, None], logits, NOTHING)
  return logits, raw


def _weights(logits, lse):
  """Returns exp(logits - lse), zero for hidden keys."""
  return jnp.where(logits > NOTHING, jnp.exp(logits - lse[..., None]), 0.0)


def _bias_of_pair(bias, query, key):
  """Returns the bias [N, q, k] of a pair of blocks, given by distance [N, 2 R + 1]."""
  first = key["start"] - query["start"]
  return _bias_of_distance(bias, first, query["query"].shape[-2], key["key"].shape[-2])


def _bias_of_distance(bias, first, q, k):
  """Returns the bias [N, q, k] of queries and keys whose first ones are `first` places apart.

  The biases of all distances of a pair are one slice of the padded table, and each query has that
  of the query before it, moved by one place.
  """
  count, reach = q + k - 1, (bias.shape[1] - 1) // 2
  padded = jnp.pad(bias, ((0, 0), (count, count)), mode="edge")
  begin = jnp.clip(first - (q - 1) + reach + count, 0, padded.shape[1] - count)
  near = jax.lax.dynamic_slice_in_dim(padded, begin, count, axis=1)
  # Rows of one number more than `count`, read as rows of `count`, each begin one place later.
  heads = bias.shape[0]
  rows = jnp.broadcast_to(jnp.pad(near, ((0, 0), (0, 1)))[:, None], (heads, q, count + 1))
  return rows.reshape(heads, -1)[:, : q * count].reshape(heads, q, count)[:, :, q - 1 :]


def _bias_gradient(bias, query, key, by_logits):
  """Returns the gradient [N, 2 R + 1] of the bias from that of a pair's logits [B, K, G, q, k]."""
  summed = by_logits.sum(0).reshape(bias.shape[0], *by_logits.shape[-2:])
  _, pull = jax.vjp(lambda bias: _bias_of_pair(bias, query, key), bias)
  return pull(summed)[0]


# In these products, the queries of all heads of a group are rows of one matrix.


def _products(x, y):
  """[B, K, G, q, H] and [B, K, k, H] -> float32 [B, K, G, q, k]."""
  flat = x.reshape(*x.shape[:2], -1, x.shape[-1])
  z = jnp.einsum("bnih,bnjh->bnij", flat, y, preferred_element_type=jnp.float32)
  return z.reshape(*x.shape[:-1], -1)


def _mean(weights, y):
  """[B, K, G, q, k] and [B, K, k, H] -> float32 [B, K, G, q, H]."""
  flat = weights.astype(y.dtype).reshape(*weights.shape[:2], -1, weights.shape[-1])
  z = jnp.einsum("bnij,bnjh->bnih", flat, y, preferred_element_type=jnp.float32)
  return z.reshape(*weights.shape[:-1], -1)


def _sum(weights, x):
  """[B, K, G, q, k] and [B, K, G, q, H] -> float32 [B, K, k, H]."""
  weights, x = (z.reshape(*z.shape[:2], -1, z.shape[-1]) for z in (weights.astype(x.dtype), x))
  return jnp.einsum("bnij,bnih->bnjh", weights, x, preferred_element_type=jnp.float32)
