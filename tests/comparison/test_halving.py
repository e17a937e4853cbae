"""Successive halving: the rounds, and who trains on."""

import pytest

from t5x_style.comparison import halving
from t5x_style.errors import UserError


def test_the_better_half_trains_on_until_two_have_the_whole_budget():
  assert halving.rounds(8) == [(8, 0.25), (4, 0.5), (2, 1.0)]
  assert halving.rounds(5) == [(5, 0.25), (3, 0.5), (2, 1.0)]
  assert halving.rounds(2) == [(2, 1.0)]
  assert halving.rounds(1) == [(1, 1.0)]


def test_every_round_costs_about_the_same():
  """Jamieson & Talwalkar: each round gets an equal part of the whole budget."""
  costs, before = [], 0.0
  for candidates, share in halving.rounds(16):
    costs.append(candidates * (share - before))
    before = share
  assert costs == [2.0, 1.0, 1.0, 1.0]  # The first one has nothing to resume from.


def test_the_best_survive_in_their_order():
  values = {"a": 0.2, "b": 0.5, "c": 0.5, "d": 0.9}
  assert halving.survivors(values, "higher", 2, "pairs") == ["b", "d"]
  assert halving.survivors(values, "lower", 3, "completion") == ["a", "b", "c"]


def test_a_candidate_without_the_measure_is_no_loser():
  with pytest.raises(UserError, match="HALVE_BY = 'completion': masked LM has no such measure"):
    halving.survivors({"masked LM": None, "causal LM": 2.0}, "lower", 1, "completion")
