"""Equal budgets become steps."""

import pytest

from t5x_style.comparison import budget
from t5x_style.errors import UserError


def test_each_candidate_gets_the_steps_that_the_amount_pays():
  found = budget.steps("flops", 1e12, {"cheap": 2.5e9, "dear": 1.5e10})
  assert found == {"cheap": 400, "dear": 67}  # 66.7 steps
  assert abs(67 * 1.5e10 - 1e12) < 1.5e10 / 2


def test_an_amount_below_one_step_is_refused():
  with pytest.raises(UserError, match=r"AMOUNT = 100 tokens is less than one step of 'b'.*6e\+04"):
    budget.steps("tokens", 100, {"a": 50, "b": 200})


def test_the_speed_is_the_median_between_records_without_the_first_which_compiles():
  log = [(4, 30.0), (8, 32.0), (12, 34.0), (16, 44.0), (20, 46.2)]  # one period was disturbed
  assert budget.seconds_per_step(log) == pytest.approx((0.5 + 0.55) / 2)
  assert budget.seconds_per_step(log[:4]) == pytest.approx(0.5)
  with pytest.raises(UserError, match="1 records"):
    budget.seconds_per_step(log[:1])
