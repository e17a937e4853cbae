"""Packing by sizes gives the rows of packing examples one by one."""

import itertools

import numpy as np
import pytest

from t5x_style.data import packing
from t5x_style.data.random_access import packing_plan


def packed(needs, room):
  sizes, kinds, counts = np.unique(needs, axis=0, return_inverse=True, return_counts=True)
  found = packing_plan.patterns(sizes, counts, room)
  return packing_plan.assign(kinds.reshape(-1), found)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("most", [0.2, 0.6, 1.0])
def test_as_full_as_best_fit(sides, most):
  random = np.random.default_rng(7)
  room = np.array([64, 48])[:sides]
  needs = random.integers(1, np.maximum(2, room * most).astype(int) + 1, (1500, sides))
  order, rows = packed(needs, room)
  assert sorted(order.tolist()) == list(range(1500))  # each example once
  sums = np.add.reduceat(needs[order], rows[:-1], axis=0)
  assert (sums <= room).all()
  reference = packing.best_fit(needs, room).max() + 1
  assert len(rows) - 1 <= 1.001 * reference


def test_examples_of_a_row_keep_their_order():
  needs = np.random.default_rng(0).integers(1, 10, (400, 1))
  order, rows = packed(needs, np.array([20]))
  for first, end in itertools.pairwise(rows.tolist()):
    assert (np.diff(order[first:end]) > 0).all()


def test_nothing_to_pack():
  order, rows = packed(np.zeros((0, 2), np.int64), np.array([5, 5]))
  assert order.tolist() == [] and rows.tolist() == [0]


def test_the_work_depends_on_the_sizes_and_not_on_the_number_of_examples():
  sizes, room = np.arange(1, 65)[:, None], np.array([64])
  few = packing_plan.patterns(sizes, np.full(64, 10), room)
  many = packing_plan.patterns(sizes, np.full(64, 10**9), room)
  assert len(many) < 2 * len(few) + 64
  assert sum(p.rows * len(p.examples) for p in many) == 64 * 10**9
