"""How many steps each candidate trains, so that all have the same budget."""

import itertools
from collections.abc import Mapping

from t5x_style.comparison.settings import Budget
from t5x_style.errors import UserError

UNITS: Mapping[Budget, str] = {"flops": "FLOPs", "tokens": "tokens", "seconds": "seconds"}


def steps(budget: Budget, amount: float, costs: Mapping[str, float]) -> dict[str, int]:
  """Returns {candidate: training steps}, rounded to whole steps.

  Args:
    budget: what is equal; amount: of it, for each run.
    costs: {candidate: of one step}, in the unit of the budget.

  Raises:
    UserError: the amount is less than one step of a candidate.
  """
  unit = UNITS[budget]
  for name, cost in costs.items():
    if amount < cost:
      raise UserError(
        f"AMOUNT = {amount:g} {unit} is less than one step of {name!r}, which takes {cost:.3g}. "
        f"A few hundred steps need {max(costs.values()) * 300:.1g}: set AMOUNT."
      )
  return {name: round(amount / cost) for name, cost in costs.items()}


def seconds_per_step(log: list[tuple[int, float]]) -> float:
  """Returns the median seconds of a step, measured between the records of a short run.

  Args:
    log: (step, seconds since the start) of the records of training. The first one counts only as a
      beginning: it includes compilation.

  Raises:
    UserError: there are fewer than two records.
  """
  if len(log) < 2:
    raise UserError(f"The speed cannot be measured from {len(log)} records of training.")
  rates = sorted(
    (seconds - earlier) / (step - before)
    for (before, earlier), (step, seconds) in itertools.pairwise(log)
  )
  middle = len(rates) // 2
  return rates[middle] if len(rates) % 2 else (rates[middle - 1] + rates[middle]) / 2
