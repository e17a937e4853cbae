"""Stateless draws are uniform, exact in number, and favour no position."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from t5x_style.data import noise


def seeds(n, start=0):
  return noise.mix(tf.range(start, start + n, dtype=tf.int64).numpy().astype(np.uint64))


def within(count, n, p, sigmas=4.5):
  return abs(count - n * p) <= sigmas * np.sqrt(n * p * (1 - p))


def test_mix_is_the_published_function():
  # SplitMix64 seeded with 0 gives these first values; its state advances by the golden ratio.
  states = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
  expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
  assert noise.mix(tf.constant(states)).numpy().tolist() == expected


def test_uniform_and_integers_are_uniform():
  u = noise.uniform(seeds(200), 500).numpy()
  assert u.min() >= 0 and u.max() < 1
  counts = np.histogram(u, bins=20, range=(0, 1))[0]
  assert all(within(c, u.size, 1 / 20) for c in counts)
  drawn = noise.integers(seeds(200), 500, 7).numpy()
  assert all(within(c, drawn.size, 1 / 7) for c in np.bincount(drawn.ravel(), minlength=7))


def test_window_seeds_depend_on_tokens_order_and_salt_but_not_on_the_batch():
  tokens = tf.constant([[5, 6, 7], [6, 5, 7], [5, 6, 7]])
  salts = tf.constant([1, 1, 2], tf.int64)
  together = noise.window_seeds(tokens, salts).numpy()
  assert len(set(together.tolist())) == 3
  assert noise.window_seeds(tokens[1:2], salts[1:2]).numpy()[0] == together[1]


def test_salt_tells_seed_and_epoch_apart():
  pairs = list(itertools.product(range(4), range(4)))
  salts = {int(noise.salt(tf.constant(pair, tf.int64))) for pair in pairs}
  assert len(salts) == len(pairs)


def test_choose_takes_every_subset_equally_often():
  rows = 20_000
  eligible = np.broadcast_to([True, True, False, True, True], (rows, 5))
  positions, real = noise.choose(seeds(rows), tf.constant(eligible), tf.fill([rows], 2), 3)
  assert real.numpy().tolist() == [[True, True, False]] * rows
  assert (positions.numpy()[:, 2] == 5).all()
  found = collections.Counter(map(tuple, positions.numpy()[:, :2].tolist()))
  assert set(found) == set(itertools.combinations([0, 1, 3, 4], 2))
  assert all(within(c, rows, 1 / 6) for c in found.values())


def test_compact():
  values, keep = tf.constant([[7, 8, 9], [1, 2, 3]]), tf.constant([[1, 0, 1], [0, 0, 1]]) > 0
  assert noise.compact(values, keep, 4).numpy().tolist() == [[7, 9, 0, 0], [3, 0, 0, 0]]
  assert noise.compact(values, keep, 1).numpy().tolist() == [[7], [3]]


def masks(length, hidden, spans, rows, **kwargs):
  fill = lambda value: tf.fill([rows], value)
  return noise.span_mask(
    seeds(rows),
    fill(length),
    fill(hidden),
    fill(spans),
    length=length,
    max_noise=hidden,
    max_spans=spans,
    **kwargs,
  ).numpy()


def valid_masks(length, hidden, spans):
  """Returns every mask with that many hidden tokens and spans, found by trying all."""
  found = []
  for bits in itertools.product([0, 1], repeat=length):
    starts = sum(b and not a for a, b in zip((0, *bits), bits, strict=False))
    if sum(bits) == hidden and starts == spans:
      found.append(bits)
  return found


@pytest.mark.parametrize("length, hidden, spans", [(8, 4, 2), (7, 3, 3), (6, 2, 1), (6, 5, 2)])
def test_span_mask_draws_every_valid_mask_equally_often(length, hidden, spans):
  rows = 30_000
  found = collections.Counter(map(tuple, masks(length, hidden, spans, rows).astype(int).tolist()))
  valid = valid_masks(length, hidden, spans)
  assert set(found) == set(valid)
  assert all(within(c, rows, 1 / len(valid)) for c in found.values())


def test_no_position_is_favoured_at_the_size_of_t5():
  # Exactly uniform masks hide every token equally often but for the ends, which have one
  # neighbour less: P(first) follows from counting masks, see below.
  rows, length, hidden, spans = 20_000, 568, 85, 28
  share = masks(length, hidden, spans, rows).mean(axis=0)
  # The first token is hidden where the gap in front of it is one of the chosen gaps.
  gaps = length - hidden + 1
  for end in (share[0], share[-1]):
    assert within(end * rows, rows, spans / gaps)
  middle = share[20:-20]
  sigma = np.sqrt(0.15 * 0.85 / rows)
  assert abs(middle.mean() - hidden / length) < 0.002
  assert abs(middle - middle.mean()).max() < 5 * sigma


def test_t5_ends():
  drawn = masks(20, 6, 3, 2000, t5_ends=True)
  assert not drawn[:, 0].any() and drawn[:, -1].all()
  assert (drawn.sum(axis=1) == 6).all()
  starts = drawn & ~np.pad(drawn, [(0, 0), (1, 0)])[:, :-1]
  assert (starts.sum(axis=1) == 3).all()


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_drawn_span_lengths_keep_the_exact_counts(kind):
  drawn = masks(600, 240, 30, 500, span_lengths=kind)
  assert (drawn.sum(axis=1) == 240).all()
  starts = drawn & ~np.pad(drawn, [(0, 0), (1, 0)])[:, :-1]
  assert (starts.sum(axis=1) == 30).all()
  lengths = np.concatenate([np.diff(np.flatnonzero(np.diff(np.pad(r, 1))))[::2] for r in drawn])
  deviation = lengths.std()
  assert deviation == pytest.approx({"normal": 1.8, "uniform": 4.1}[kind], rel=0.2)


def test_rows_of_different_length_share_a_batch():
  lengths, hidden = tf.constant([10, 3, 7]), tf.constant([3, 1, 2])
  drawn = noise.span_mask(
    seeds(3), lengths, hidden, tf.constant([2, 1, 2]), length=10, max_noise=3, max_spans=2
  ).numpy()
  assert drawn.sum(axis=1).tolist() == [3, 1, 2]
  assert not drawn[1, 3:].any() and not drawn[2, 7:].any()
