"""Computed permutations: one to one for every size, and mixed well."""

import numpy as np
import pytest

from t5x_style.data.random_access.permutation import permuted


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 4097])
def test_every_number_comes_once(size):
  places = np.arange(size)
  for key in range(5):
    numbers = permuted(places, size, key)
    assert sorted(numbers.tolist()) == places.tolist()


def test_numbers_of_more_than_32_bits():
  size = 10**15 + 7
  places = np.unique(np.random.default_rng(0).integers(0, size, 1000))
  numbers = permuted(places, size, 3)
  assert (
    (0 <= numbers).all() and (numbers < size).all() and len(set(numbers.tolist())) == len(places)
  )


def test_each_place_may_have_a_key_of_its_own():
  keys = np.arange(50, dtype=np.uint64)
  together = permuted(np.full(50, 12), 100, keys)
  assert together.tolist() == [int(permuted(np.array([12]), 100, k)[0]) for k in range(50)]
  assert len(set(together.tolist())) > 30


def test_all_orders_of_four_are_about_as_likely():
  """24 orders, 6,000 keys: chi-squared has 23 degrees of freedom, and exceeds 60 once in 40,000."""
  keys = np.arange(6000, dtype=np.uint64)
  drawn = np.stack([permuted(np.full(6000, place), 4, keys) for place in range(4)], axis=1)
  _, counts = np.unique(drawn, axis=0, return_counts=True)
  assert len(counts) == 24
  assert ((counts - 250) ** 2 / 250).sum() < 60


def test_neighbours_do_not_stay_together():
  numbers = permuted(np.arange(100_000), 100_000, 1)
  distance = np.abs(np.diff(numbers))
  assert abs(distance.mean() / 100_000 - 1 / 3) < 0.01  # the mean distance of two random numbers
  assert abs(np.corrcoef(np.arange(100_000), numbers)[0, 1]) < 0.02
