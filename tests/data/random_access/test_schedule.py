"""Shares of components: exact in every block, in mixed order, each of their rows once."""

import numpy as np
import pytest

from t5x_style.data.random_access.schedule import Schedule
from t5x_style.errors import UserError


@pytest.mark.parametrize("rates", [(1, 2), (0.4, 0.2, 0.4), (1,) * 7, (0.001, 0.999), (0, 1, 3)])
def test_each_component_has_its_share_and_each_of_its_rows_once(rates):
  schedule = Schedule(tuple(rates), seed=5)
  size, blocks = schedule.phases[0].shares.block, 7
  components, numbers = schedule(np.arange(size * blocks))
  shares = np.array(rates) / sum(rates)
  for index, share in enumerate(shares):
    own = np.sort(numbers[components == index])
    assert own.tolist() == list(range(len(own)))
    for block in range(blocks):
      count = (components[block * size : (block + 1) * size] == index).sum()
      assert abs(count - share * size) < 2
      if share:
        assert count > 0
  counted = np.bincount(components, minlength=len(rates))
  np.testing.assert_allclose(schedule.counts(size * blocks), counted, atol=1)


def test_any_rows_are_computed_alone():
  schedule = Schedule((3, 1, 2), seed=1)
  rows = np.array([10**12 + 5, 3, 3, 70, 10**12 + 5])
  components, numbers = schedule(rows)
  one = [schedule(np.array([row])) for row in rows]
  assert components.tolist() == [int(c[0]) for c, _ in one]
  assert numbers.tolist() == [int(n[0]) for _, n in one]
  # Half of the rows so far were of the first component, to within a block.
  first = np.flatnonzero(schedule(np.arange(10**12, 10**12 + 64))[0] == 0)[0] + 10**12
  number = int(schedule(np.array([first]))[1][0])
  assert abs(number - first / 2) < 64


def test_blocks_differ_in_their_order_and_so_do_seeds():
  components, _ = Schedule((1, 1), seed=0)(np.arange(128))
  other, _ = Schedule((1, 1), seed=1)(np.arange(128))
  assert components[:64].tolist() != components[64:].tolist()
  assert components.tolist() != other.tolist()


def test_a_single_component_has_all_rows():
  components, numbers = Schedule((0.3,), seed=0)(np.array([5, 9]))
  assert components.tolist() == [0, 0] and numbers.tolist() == [5, 9]


def test_a_component_that_has_ended_leaves_its_share_to_the_others():
  schedule = Schedule((2, 1, 1), seed=3, most=(None, 100, 320))
  components, numbers = schedule(np.arange(4000))
  for index, most in enumerate((4000, 100, 320)):
    own = np.sort(numbers[components == index])
    assert own.tolist() == list(range(len(own))) and (len(own) == most or index == 0)
  ends = [np.flatnonzero(components == index).max() for index in (1, 2)]
  assert 384 <= ends[0] < 436 < ends[1] < 1100  # 100 of a quarter, then 220 of a third
  between = components[ends[0] + 64 : ends[1] - 64]
  assert np.bincount(between).tolist() == pytest.approx(
    [len(between) * 2 / 3, 0, len(between) / 3], abs=6
  )
  assert (components[ends[1] + 64 :] == 0).all()
  np.testing.assert_allclose(schedule.counts(4000), np.bincount(components), atol=1)


def test_limits_below_a_block_are_reached():
  components, numbers = Schedule((1, 1), seed=0, most=(20, None))(np.arange(300))
  assert sorted(numbers[components == 0]) == list(range(20))
  assert sorted(numbers[components == 1]) == list(range(280))
  assert np.flatnonzero(components == 0).max() < 64
  schedule = Schedule((1, 2, 1), seed=0, most=(5, 7, 300))
  assert schedule.rows == 312
  assert Schedule((1, 2), seed=0, most=(5, None)).rows is None
  assert np.bincount(schedule(np.arange(312))[0]).tolist() == [5, 7, 300]
  with pytest.raises(UserError, match="CORPUS_EPOCHS"):
    schedule(np.array([312]))


@pytest.mark.parametrize("rates", [(1, 1e-8), (1, 1e-12), (1e-7, 3, 0)])
def test_shares_that_are_too_small_are_an_error(rates):
  with pytest.raises(UserError, match="share .* of the rows, and the smallest is 1e-06"):
    Schedule(rates, seed=0, most=(10, None, None)[: len(rates)])


def test_very_small_shares_and_very_large_limits():
  schedule = Schedule((1, 1e-5), seed=0, most=(2**80, 10**12))
  components, _ = schedule(np.arange(400_000))
  assert 2 <= (components == 1).sum() <= 6


def test_all_components_have_ended():
  schedule = Schedule((1, 1), seed=3, most=(64, 200))
  with pytest.raises(UserError, match="Set TRAIN_STEPS to the last step and start again"):
    schedule(np.arange(300))
