"""Successive halving (Jamieson & Talwalkar 2015, arXiv 1502.07943, figure 3).

All candidates train a part of the budget; the better half trains on to twice of that part, and so
on. In the paper one is left at the end. Here the last two have the whole budget, so that the report
ends with a comparison.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from t5x_style.errors import UserError

_FINALISTS = 2


class Round(NamedTuple):
  """A round: `candidates` is how many take part, `share` how much of the budget they reach."""

  candidates: int
  share: float


def rounds(count: int) -> list[Round]:
  """Returns the rounds of `count` candidates: 8 train a quarter, 4 a half, 2 all of the budget."""
  sizes = [count]
  while sizes[-1] > _FINALISTS:
    sizes.append(-(-sizes[-1] // 2))
  return [Round(size, 0.5 ** (len(sizes) - 1 - i)) for i, size in enumerate(sizes)]


def survivors(
  values: Mapping[str, float | None], better: str, keep: int, measure: str
) -> list[str]:
  """Returns the `keep` best candidates, in the order of `values`; ties go to the earlier ones.

  Args:
    values: {candidate: mean over seeds of the measure}.
    better: "higher" or "lower".

  Raises:
    UserError: a candidate has no value.
  """
  missing = [name for name, value in values.items() if value is None]
  if missing:
    raise UserError(
      f"HALVE_BY = {measure!r}: {', '.join(missing)} has no such measure, so it cannot be ranked. "
      "Set a measure that all candidates have, such as 'choice_of_four', in another COMPARE_DIR."
    )
  sign = -1 if better == "higher" else 1
  ranked: Sequence[str] = sorted(values, key=lambda name: sign * (values[name] or 0.0))
  return [name for name in values if name in ranked[:keep]]
