"""Stateless randomness: a window's own seed, uniform draws from it, and exact-count masks."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# The keys of `choose` hold random bits above and the position below, so that no two are equal.
_POSITION_BITS = 20
_GOLDEN = 0x9E3779B97F4A7C15


def _u64(value: int) -> tf.Tensor:
  return tf.constant(np.uint64(value & 0xFFFFFFFFFFFFFFFF))


def mix(x: tf.Tensor) -> tf.Tensor:
  """Mixes the bits of uint64 `x`, bijectively (the SplitMix64 finaliser, Steele et al. 2014)."""
  x = (x ^ tf.bitwise.right_shift(x, _u64(30))) * _u64(0xBF58476D1CE4E5B9)
  x = (x ^ tf.bitwise.right_shift(x, _u64(27))) * _u64(0x94D049BB133111EB)
  return x ^ tf.bitwise.right_shift(x, _u64(31))


def _counters(n: int) -> np.ndarray:
  return np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_GOLDEN)


def salt(noise_seed: tf.Tensor) -> tf.Tensor:
  """Returns a number for a pair: int64 [2] (run seed, epoch) -> int64 []."""
  seed, epoch = tf.unstack(tf.bitcast(noise_seed, tf.uint64))
  return tf.bitcast(mix(mix(seed + _u64(_GOLDEN)) ^ (epoch + _u64(1))), tf.int64)


def window_seeds(tokens: tf.Tensor, salts: tf.Tensor) -> tf.Tensor:
  """Returns a seed for each window: a hash of its tokens and its salt.

  The seed depends on nothing else, so hosts, threads, restarts and batch boundaries do not matter.
  As a consequence, two equal windows of one epoch get the same noise.

  Args:
    tokens: int32 [B, L]. The hash is multilinear in the tokens modulo 2^64.
    salts: int64 [B]; see `salt`.

  Returns:
    uint64 [B].
  """
  length = tokens.shape[1]
  odd = np.array(_counters(length) ^ (_counters(length) >> np.uint64(29)), np.uint64) | np.uint64(1)
  content = tf.reduce_sum(tf.cast(tokens + 1, tf.uint64) * tf.constant(odd), axis=1)
  return mix(mix(content) ^ tf.bitcast(salts, tf.uint64))


def fold_in(seeds: tf.Tensor, label: int) -> tf.Tensor:
  """Returns other seeds, uint64 [B] -> [B], for each `label`: for several draws from one window."""
  return mix(seeds ^ _u64((label + 1) * 0xD1342543DE82EF95))


def random_bits(seeds: tf.Tensor, n: int) -> tf.Tensor:
  """Draws uniform bits: uint64 [B] seeds -> uint64 [B, n]."""
  return mix(seeds[:, None] + tf.constant(_counters(n)))


def uniform(seeds: tf.Tensor, n: int) -> tf.Tensor:
  """Draws uniformly from [0, 1), in steps of 2^-24: uint64 [B] seeds -> float32 [B, n]."""
  bits = tf.bitwise.right_shift(random_bits(seeds, n), _u64(40))
  return tf.cast(tf.cast(bits, tf.int32), tf.float32) * 2.0**-24


def integers(seeds: tf.Tensor, n: int, limit: tf.Tensor | int) -> tf.Tensor:
  """Draws uniformly from 0, ..., limit - 1: uint64 [B] seeds -> int32 [B, n].

  `limit` broadcasts against [B, n].
  """
  high = tf.cast(tf.bitwise.right_shift(random_bits(seeds, n), _u64(32)), tf.uint64)
  scaled = tf.bitwise.right_shift(high * tf.cast(limit, tf.uint64), _u64(32))
  return tf.cast(scaled, tf.int32)


def choose(
  seeds: tf.Tensor,
  eligible: tf.Tensor,
  count: tf.Tensor,
  max_count: int,
  groups: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Chooses exactly `count` eligible positions of each row; all subsets are equally likely.

  Args:
    seeds: uint64 [B].
    eligible: bool [B, n], n < 2^20.
    count: int32 [B], at most `max_count` and at most the eligible positions of the row.
    max_count: static upper bound, at most n.
    groups: int32 [B, n] in [0, n); positions of one group (a word) are chosen together, except that
      the count may cut the last group.

  Returns:
    int32 [B, max_count] positions in ascending order, then `n`, and
    bool [B, max_count], true for the first `count` of them.
  """
  n = eligible.shape[1]
  position = np.arange(n, dtype=np.int64)
  bits = tf.bitwise.right_shift(random_bits(seeds, n), _u64(_POSITION_BITS + 1))
  if groups is not None:
    bits = tf.gather(bits, groups, batch_dims=1)
  keys = tf.cast(bits, tf.int64) * (1 << _POSITION_BITS) + position
  keys = tf.where(eligible, keys, -1)
  chosen = tf.math.top_k(keys, k=max_count).values
  chosen = tf.cast(chosen & ((1 << _POSITION_BITS) - 1), tf.int32)
  real = tf.range(max_count)[None, :] < count[:, None]
  return tf.sort(tf.where(real, chosen, n), axis=1), real


def positions_to_mask(positions: tf.Tensor, n: int) -> tf.Tensor:
  """int32 [B, K] positions (values >= n are ignored) -> bool [B, n]."""
  return _scatter_add(positions, tf.ones_like(positions), n) > 0


def _scatter_add(columns: tf.Tensor, values: tf.Tensor, width: int) -> tf.Tensor:
  """Sums `values` [B, K] into [B, width] at `columns` [B, K]; columns outside are dropped."""
  rows = tf.shape(columns)[0]
  inside = (columns >= 0) & (columns < width)
  flat = tf.where(inside, tf.range(rows)[:, None] * width + columns, -1)
  summed = tf.math.unsorted_segment_sum(values, flat, rows * width)
  return tf.reshape(summed, [rows, width])


def compact(values: tf.Tensor, keep: tf.Tensor, width: int) -> tf.Tensor:
  """Moves the kept values of each row to the left: [[7, 8, 9]], [[1, 0, 1]], 4 -> [[7, 9, 0, 0]].

  Args:
    values: [B, n].
    keep: bool [B, n]; kept values beyond `width` are cut off.
    width: static length of the result.

  Returns:
    [B, width], with zeros after the kept values.
  """
  columns = tf.cumsum(tf.cast(keep, tf.int32), axis=1) - 1
  result = _scatter_add(tf.where(keep, columns, -1), values, width)
  return tf.ensure_shape(result, [None, width])


def span_mask(
  seeds: tf.Tensor,
  lengths: tf.Tensor,
  noise: tf.Tensor,
  spans: tf.Tensor,
  *,
  length: int,
  max_noise: int,
  max_spans: int,
  span_lengths: str = "composition",
  t5_ends: bool = False,
) -> tf.Tensor:
  """Draws a mask with exactly `noise` tokens in exactly `spans` separate spans.

  A mask is a composition of the noise into span lengths, and a set of distinct gaps between the
  other tokens for the spans, those before the first and after the last token included. Both are
  drawn uniformly, so all valid masks are equally likely and no position is favoured.

  Args:
    seeds: uint64 [B].
    lengths: int32 [B], tokens in each row, at most `length`.
    noise: int32 [B], tokens to hide, 1 <= spans <= noise and spans <= lengths - noise + 1.
    spans: int32 [B].
    length, max_noise, max_spans: static upper bounds of the three.
    span_lengths: "composition", as above and in T5; "normal" or "uniform": lengths with that
      distribution around the mean, scaled to the exact sum.
    t5_ends: T5's own masks (Raffel et al. 2019, the published random_spans_noise_mask): the first
      token is never hidden, the last one always is. spans <= lengths - noise then.

  Returns:
    bool [B, length].
  """
  if span_lengths == "composition":
    edges = _composition(fold_in(seeds, 0), noise, spans, max_noise, max_spans)
  else:
    edges = _scaled_draws(fold_in(seeds, 0), noise, spans, max_spans, span_lengths)
  return place_spans(
    fold_in(seeds, 1), edges, lengths, noise, spans, length=length, t5_ends=t5_ends
  )


def _composition(
  seeds: tf.Tensor, noise: tf.Tensor, spans: tf.Tensor, max_noise: int, max_spans: int
) -> tf.Tensor:
  """Draws a uniform composition of `noise` into `spans` parts, as edges [B, max_spans + 1]."""
  boundary = np.arange(max(max_noise - 1, 1))[None, :]
  cuts, real = choose(seeds, boundary < noise[:, None] - 1, spans - 1, max_spans - 1)
  cuts = tf.where(real, cuts + 1, noise[:, None])
  return tf.concat([tf.zeros_like(noise)[:, None], cuts, noise[:, None]], axis=1)


def _scaled_draws(
  seeds: tf.Tensor, noise: tf.Tensor, spans: tf.Tensor, max_spans: int, kind: str
) -> tf.Tensor:
  """Draws parts of normal (deviation: a quarter of the mean) or uniform lengths, as edges."""
  if kind == "normal":
    angle = 2 * np.pi * uniform(fold_in(seeds, 0), max_spans)
    radius = tf.sqrt(-2 * tf.math.log(1 - uniform(fold_in(seeds, 1), max_spans)))
    weight = tf.maximum(1 + radius * tf.cos(angle) / 4, 0.05)
  else:
    weight = 0.001 + uniform(seeds, max_spans)
  order = tf.range(1, max_spans + 1)[None, :]
  real = order <= spans[:, None]
  share = tf.cumsum(tf.where(real, tf.cast(weight, tf.float64), 0), axis=1)
  # One token for each span; the others in proportion to the draws, rounded at the edges.
  spare = tf.cast(noise - spans, tf.float64)[:, None]
  edges = order + tf.cast(tf.round(spare * share / share[:, -1:]), tf.int32)
  edges = tf.where(order < spans[:, None], edges, noise[:, None])
  return tf.concat([tf.zeros_like(noise)[:, None], edges], axis=1)


def place_spans(
  seeds: tf.Tensor,
  edges: tf.Tensor,
  lengths: tf.Tensor,
  noise: tf.Tensor,
  spans: tf.Tensor,
  *,
  length: int,
  t5_ends: bool = False,
) -> tf.Tensor:
  """Puts spans of given lengths into distinct gaps, drawn uniformly; see `span_mask`.

  Args:
    edges: int32 [B, max_spans + 1], running sums of the span lengths: 0, ..., noise, then `noise`
      repeated.

  Returns:
    bool [B, length].
  """
  max_spans = edges.shape[1] - 1
  kept = (lengths - noise)[:, None]
  gap = np.arange(length)[None, :]
  if t5_ends:
    gaps, real = choose(seeds, (gap >= 1) & (gap < kept), spans - 1, max_spans - 1)
    gaps = tf.concat([tf.where(real, gaps, kept), kept], axis=1)
  else:
    gaps, real = choose(seeds, gap <= kept, spans, max_spans)
    gaps = tf.where(real, gaps, kept)
  starts, ends = gaps + edges[:, :-1], gaps + edges[:, 1:]  # empty beyond the row's spans
  ones = tf.ones_like(starts)
  steps = _scatter_add(
    tf.concat([starts, ends], axis=1), tf.concat([ones, -ones], axis=1), length + 1
  )
  return tf.cumsum(steps, axis=1)[:, :length] > 0
