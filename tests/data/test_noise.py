"""Stateless draws are uniform, exact in number, and favour no position."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data import noise
from t5x_style.data.tensorflow_setup import tf


def seeds(n, start=0):
  return noise.mix(np.arange(start, start + n, dtype=np.uint64))


def within(count, n, p, sigmas=4.5):
  return abs(count - n * p) <= sigmas * np.sqrt(n * p * (1 - p))


def test_mix_is_the_published_function():
  # SplitMix64 seeded with 0 gives these first values; its state advances by the golden ratio.
  states = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
  expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
  assert noise.mix(states).tolist() == expected


def test_uniform_and_integers_are_uniform():
  u = noise.uniform(seeds(200), 500)
  assert u.min() >= 0 and u.max() < 1
  counts = np.histogram(u, bins=20, range=(0, 1))[0]
  assert all(within(c, u.size, 1 / 20) for c in counts)
  drawn = noise.integers(seeds(200), 500, 7)
  assert all(within(c, drawn.size, 1 / 7) for c in np.bincount(drawn.ravel(), minlength=7))


def test_window_seeds_depend_on_tokens_order_and_salt_but_not_on_the_batch():
  tokens = np.array([[5, 6, 7], [6, 5, 7], [5, 6, 7]], np.int32)
  salts = np.array([1, 1, 2])
  together = noise.window_seeds(tokens, salts)
  assert len(set(together.tolist())) == 3
  assert noise.window_seeds(tokens[1:2], salts[1:2])[0] == together[1]


def test_salt_tells_seed_and_epoch_apart():
  pairs = list(itertools.product(range(4), range(4)))
  salts = [int(noise.salt(np.array(pair))) for pair in pairs]
  assert len(set(salts)) == len(pairs)
  assert noise.salt(np.array(pairs)).tolist() == salts


def test_choose_takes_every_subset_equally_often():
  rows = 20_000
  eligible = np.broadcast_to([True, True, False, True, True], (rows, 5))
  positions, real = noise.choose(seeds(rows), eligible, np.full(rows, 2), 3)
  assert real.tolist() == [[True, True, False]] * rows
  assert (positions[:, 2] == 5).all()
  found = collections.Counter(map(tuple, positions[:, :2].tolist()))
  assert set(found) == set(itertools.combinations([0, 1, 3, 4], 2))
  assert all(within(c, rows, 1 / 6) for c in found.values())


def test_compact():
  values, keep = np.array([[7, 8, 9], [1, 2, 3]]), np.array([[1, 0, 1], [0, 0, 1]]) > 0
  assert noise.compact(values, keep, 4).tolist() == [[7, 9, 0, 0], [3, 0, 0, 0]]
  assert noise.compact(values, keep, 1).tolist() == [[7], [3]]


def masks(length, hidden, spans, rows, **kwargs):
  fill = lambda value: np.full(rows, value, np.int32)
  return noise.span_mask(
    seeds(rows),
    fill(length),
    fill(hidden),
    fill(spans),
    length=length,
    max_noise=hidden,
    max_spans=spans,
    **kwargs,
  )


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
  lengths, hidden, spans = np.array([[10, 3, 7], [3, 1, 2], [2, 1, 2]], np.int32)
  drawn = noise.span_mask(seeds(3), lengths, hidden, spans, length=10, max_noise=3, max_spans=2)
  assert drawn.sum(axis=1).tolist() == [3, 1, 2]
  assert not drawn[1, 3:].any() and not drawn[2, 7:].any()


def equal(function, *values):
  """Compares what a function returns of NumPy arrays and of tensors; returns the former."""
  found = function(*values)
  tensors = function(*(tf.constant(x) if isinstance(x, np.ndarray) else x for x in values))
  pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (found, tensors)), strict=True)
  for one, other in pairs:
    other = other.numpy()
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)
  return found


SEEDS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9).map(
  lambda x: np.array(x, np.uint64)
)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 40), st.integers(1, 2**31 - 1), st.integers(0, 30))
def test_numpy_and_tensorflow_draw_the_same(seeds, n, limit, label):
  equal(noise.mix, seeds)
  equal(noise.fold_in, seeds, label)
  equal(noise.uniform, seeds, n)
  equal(noise.integers, seeds, n, limit)
  limits = (1 + seeds % np.uint64(1000)).astype(np.int32)[:, None]
  equal(noise.integers, seeds, n, limits)
  equal(noise.salt, seeds[:2].view(np.int64) if len(seeds) > 1 else np.array([-5, 7]))
  tokens = noise.integers(seeds, n, 32_000)
  equal(noise.window_seeds, tokens, seeds.view(np.int64))
  eligible = noise.uniform(seeds, n) < 0.7
  count = eligible.sum(axis=1).astype(np.int32)
  groups = np.sort(noise.integers(noise.fold_in(seeds, 1), n, n), axis=1)
  for grouped in (None, groups):
    choose = lambda *x, g=grouped: noise.choose(*x, int(count.max()), g)
    equal(choose, noise.fold_in(seeds, 2), eligible, count // 2)
  positions = noise.choose(seeds, eligible, count, n)[0]
  equal(noise.positions_to_mask, positions, n)
  for width in (n + 1, max(1, n // 2)):
    equal(noise.compact, tokens, eligible, width)
    equal(noise.compact, noise.uniform(seeds, n), eligible, width)


@pytest.mark.parametrize("kind", ["composition", "normal", "uniform"])
@settings(deadline=None, max_examples=30)
@given(st.data())
def test_numpy_and_tensorflow_draw_the_same_spans(kind, data):
  length = data.draw(st.integers(4, 200))
  rows = data.draw(st.integers(1, 3)) * 8  # full vectors of Eigen; see numpy_arrays.log
  lengths, hidden, spans = np.zeros([3, rows], np.int32)
  for row in range(rows):
    lengths[row] = data.draw(st.integers(2, length))
    hidden[row] = data.draw(st.integers(1, lengths[row] - 1))
    spans[row] = data.draw(st.integers(1, min(hidden[row], lengths[row] - hidden[row])))
  limits = {
    "length": length,
    "max_noise": int(hidden.max()),
    "max_spans": int(spans.max()),
    "span_lengths": kind,
    "t5_ends": data.draw(st.booleans()),
  }
  start = data.draw(st.integers(0, 2**40))
  draw = lambda *x: noise.span_mask(*x, **limits)
  drawn = equal(draw, seeds(rows, start), lengths, hidden, spans)
  assert (drawn.sum(axis=1) == hidden).all()
