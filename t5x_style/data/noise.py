"""Stateless randomness: a window's own seed, uniform draws from it, and exact-count masks.

NumPy arrays and tensors give the same bits; see arrays.py.
"""

from __future__ import annotations

import numpy as np

from t5x_style.data import arrays
from t5x_style.data.arrays import Array

# The keys of `choose` hold random bits above and the position below, so that no two are equal.
_POSITION_BITS = 20
_GOLDEN = 0x9E3779B97F4A7C15

# uint64 wraps around, as is meant here; NumPy would warn of it for single numbers.
_wrapping = np.errstate(over="ignore")


def _u64(value: int) -> np.uint64:
  return np.uint64(value & 0xFFFFFFFFFFFFFFFF)


@_wrapping
def mix(x: Array) -> Array:
  """Mixes the bits of uint64 `x`, bijectively (the SplitMix64 finaliser, Steele et al. 2014)."""
  xp = arrays.of(x)
  x = (x ^ xp.right_shift(x, 30)) * _u64(0xBF58476D1CE4E5B9)
  x = (x ^ xp.right_shift(x, 27)) * _u64(0x94D049BB133111EB)
  return x ^ xp.right_shift(x, 31)


def _counters(n: int) -> np.ndarray:
  return np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_GOLDEN)


@_wrapping
def salt(noise_seed: Array) -> Array:
  """Returns a number for each pair: int64 [..., 2] (run seed, epoch) -> int64 [...]."""
  xp = arrays.of(noise_seed)
  bits = xp.bitcast(noise_seed, np.uint64)
  seed, epoch = bits[..., 0], bits[..., 1]
  return xp.bitcast(mix(mix(seed + _u64(_GOLDEN)) ^ (epoch + _u64(1))), np.int64)


def window_seeds(tokens: Array, salts: Array) -> Array:
  """Returns a seed for each window: a hash of its tokens and its salt.

  The seed depends on nothing else, so hosts, threads, restarts and batch boundaries do not matter.
  As a consequence, two equal windows of one epoch get the same noise.

  Args:
    tokens: int32 [B, L]. The hash is multilinear in the tokens modulo 2^64.
    salts: int64 [B]; see `salt`.

  Returns:
    uint64 [B].
  """
  xp = arrays.of(tokens, salts)
  counters = _counters(tokens.shape[1])
  odd = (counters ^ (counters >> np.uint64(29))) | np.uint64(1)
  content = xp.sum(xp.cast(tokens + 1, np.uint64) * odd)
  return mix(mix(content) ^ xp.bitcast(salts, np.uint64))


def fold_in(seeds: Array, label: int) -> Array:
  """Returns other seeds, uint64 [B] -> [B], for each `label`: for several draws from one window."""
  return mix(seeds ^ _u64((label + 1) * 0xD1342543DE82EF95))


def random_bits(seeds: Array, n: int) -> Array:
  """Draws uniform bits: uint64 [B] seeds -> uint64 [B, n]."""
  return mix(seeds[:, None] + _counters(n))


def uniform(seeds: Array, n: int) -> Array:
  """Draws uniformly from [0, 1), in steps of 2^-24: uint64 [B] seeds -> float32 [B, n]."""
  xp = arrays.of(seeds)
  bits = xp.right_shift(random_bits(seeds, n), 40)
  return xp.cast(xp.cast(bits, np.int32), np.float32) * np.float32(2.0**-24)


def integers(seeds: Array, n: int, limit: Array | int) -> Array:
  """Draws uniformly from 0, ..., limit - 1: uint64 [B] seeds -> int32 [B, n].

  `limit` broadcasts against [B, n].
  """
  xp = arrays.of(seeds, limit)
  high = xp.right_shift(random_bits(seeds, n), 32)
  scaled = xp.right_shift(high * xp.cast(limit, np.uint64), 32)
  return xp.cast(scaled, np.int32)


def choose(
  seeds: Array,
  eligible: Array,
  count: Array,
  max_count: int,
  groups: Array | None = None,
) -> tuple[Array, Array]:
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
  xp, n = arrays.of(seeds, eligible), eligible.shape[1]
  bits = xp.right_shift(random_bits(seeds, n), _POSITION_BITS + 1)
  if groups is not None:
    bits = xp.take_along(bits, groups)
  keys = xp.cast(bits, np.int64) * (1 << _POSITION_BITS) + np.arange(n, dtype=np.int64)
  chosen = xp.largest(xp.where(eligible, keys, np.int64(-1)), max_count)
  chosen = xp.cast(chosen & ((1 << _POSITION_BITS) - 1), np.int32)
  real = arrays.places(max_count) < count[:, None]
  return xp.sort(xp.where(real, chosen, np.int32(n))), real


def positions_to_mask(positions: Array, n: int) -> Array:
  """int32 [B, K] positions (values >= n are ignored) -> bool [B, n]."""
  xp = arrays.of(positions)
  return xp.scatter_add(positions, xp.ones_like(positions), n) > 0


def compact(values: Array, keep: Array, width: int) -> Array:
  """Moves the kept values of each row to the left: [[7, 8, 9]], [[1, 0, 1]], 4 -> [[7, 9, 0, 0]].

  Args:
    values: [B, n].
    keep: bool [B, n]; kept values beyond `width` are cut off.
    width: static length of the result.

  Returns:
    [B, width], with zeros after the kept values.
  """
  xp = arrays.of(values, keep)
  columns = xp.cumsum(xp.cast(keep, np.int32)) - 1
  return xp.scatter_add(xp.where(keep, columns, -1), values, width)


def span_mask(
  seeds: Array,
  lengths: Array,
  noise: Array,
  spans: Array,
  *,
  length: int,
  max_noise: int,
  max_spans: int,
  span_lengths: str = "composition",
  t5_ends: bool = False,
) -> Array:
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


def _composition(seeds: Array, noise: Array, spans: Array, max_noise: int, max_spans: int) -> Array:
  """Draws a uniform composition of `noise` into `spans` parts, as edges [B, max_spans + 1]."""
  xp, boundary = arrays.of(seeds, noise), arrays.places(max(max_noise - 1, 1))
  cuts, real = choose(seeds, boundary < noise[:, None] - 1, spans - 1, max_spans - 1)
  cuts = xp.where(real, cuts + 1, noise[:, None])
  return xp.concat([xp.filled(noise, 1, 0), cuts, noise[:, None]])


def _scaled_draws(seeds: Array, noise: Array, spans: Array, max_spans: int, kind: str) -> Array:
  """Draws parts of normal (deviation: a quarter of the mean) or uniform lengths, as edges."""
  xp = arrays.of(seeds, noise)
  if kind == "normal":
    angle = np.float32(2 * np.pi) * uniform(fold_in(seeds, 0), max_spans)
    radius = xp.sqrt(-2 * xp.log(1 - uniform(fold_in(seeds, 1), max_spans)))
    weight = xp.maximum(1 + radius * xp.cos(angle) / 4, np.float32(0.05))
  else:
    weight = np.float32(0.001) + uniform(seeds, max_spans)
  order = arrays.places(max_spans) + 1
  real = order <= spans[:, None]
  share = xp.cumsum(xp.where(real, xp.cast(weight, np.float64), np.float64(0)))
  # One token for each span; the others in proportion to the draws, rounded at the edges.
  spare = xp.cast(noise - spans, np.float64)[:, None]
  edges = order + xp.cast(xp.round(spare * share / share[:, -1:]), np.int32)
  edges = xp.where(order < spans[:, None], edges, noise[:, None])
  return xp.concat([xp.filled(noise, 1, 0), edges])


def place_spans(
  seeds: Array,
  edges: Array,
  lengths: Array,
  noise: Array,
  spans: Array,
  *,
  length: int,
  t5_ends: bool = False,
) -> Array:
  """Puts spans of given lengths into distinct gaps, drawn uniformly; see `span_mask`.

  Args:
    edges: int32 [B, max_spans + 1], running sums of the span lengths: 0, ..., noise, then `noise`
      repeated.

  Returns:
    bool [B, length].
  """
  xp, max_spans = arrays.of(seeds, lengths), edges.shape[1] - 1
  kept = (lengths - noise)[:, None]
  gap = arrays.places(length)
  if t5_ends:
    gaps, real = choose(seeds, (gap >= 1) & (gap < kept), spans - 1, max_spans - 1)
    gaps = xp.concat([xp.where(real, gaps, kept), kept])
  else:
    gaps, real = choose(seeds, gap <= kept, spans, max_spans)
    gaps = xp.where(real, gaps, kept)
  starts, ends = gaps + edges[:, :-1], gaps + edges[:, 1:]  # empty beyond the row's spans
  ones = xp.ones_like(starts)
  steps = xp.scatter_add(xp.concat([starts, ends]), xp.concat([ones, -ones]), length + 1)
  return xp.cumsum(steps)[:, :length] > 0
