"""From the measures of all runs to means, spreads, ties, and what to choose."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from t5x_style.comparison.measures import (
  MEASURES,
  Measure,
  Measured,
  error_of_difference,
)

RULE = (
  "The spread s of a candidate is the larger of two numbers: the sample standard deviation over "
  "its seeds, and the standard error that the number of passages, pairs or texts leaves. Two "
  "candidates tie if the difference of their means is less than its own spread. That is the larger "
  "of two numbers: the square root of the sum of both variances over seeds, and the standard error "
  "of the difference over the passages or pairs, which are the same for all. Where the answers to "
  "single texts are not kept (fine-tuned classification), it is the square root of the sum of both "
  "s²."
)


class Summary(NamedTuple):
  """A measure of a candidate over its seeds.

  Attributes:
    mean: None if it has no such measure, for `reason`. Runs that failed do not count.
    spread: see RULE; None if one seed and an unknown standard error leave nothing to say.
    by_seed: the sample standard deviation over the seeds; None if there is one seed.
    deviations: those of Measured, their means over the seeds; None where they are not known.
  """

  mean: float | None
  spread: float | None = None
  values: tuple[float, ...] = ()
  reason: str = ""
  seeds: int = 0
  by_seed: float | None = None
  deviations: tuple[float, ...] | None = None


def summary(seeds: Sequence[Measured]) -> Summary:
  """Returns mean and spread of a measure over the seeds of a candidate."""
  values = tuple(x.value for x in seeds if x.value is not None and math.isfinite(x.value))
  if not values:
    reasons = [x.reason for x in seeds if x.reason]
    wrong = any(x.value is not None for x in seeds)
    absent = "not a finite number" if wrong else "not measured"
    return Summary(None, reason=reasons[0] if reasons else absent, seeds=len(seeds))
  by_seed = statistics.stdev(values) if len(values) > 1 else None
  spreads = [x for x in (by_seed, *(seed.standard_error for seed in seeds)) if x is not None]
  return Summary(
    statistics.fmean(values),
    max(spreads, default=None),
    values,
    seeds=len(seeds),
    by_seed=by_seed,
    deviations=_mean_deviations(seeds),
  )


def _mean_deviations(seeds: Sequence[Measured]) -> tuple[float, ...] | None:
  """Returns the mean of each item's deviation over the seeds; None if one does not know it."""
  each = [x.deviations for x in seeds if x.value is not None]
  known = [x for x in each if x]
  if not known or len(known) < len(each) or len({len(x) for x in known}) > 1 or len(known[0]) < 2:
    return None
  return tuple(statistics.fmean(items) for items in zip(*known, strict=True))


def tied(a: Summary, b: Summary) -> bool:
  """Returns whether two candidates tie by RULE; True if the spread of one is not known."""
  assert a.mean is not None and b.mean is not None
  if a.mean == b.mean or a.spread is None or b.spread is None:
    return True
  spread = math.hypot(a.spread, b.spread)
  if a.deviations and b.deviations and len(a.deviations) == len(b.deviations):
    by_seed = math.hypot(a.by_seed or 0.0, b.by_seed or 0.0)
    spread = max(by_seed, error_of_difference(a.deviations, b.deviations))
  return abs(a.mean - b.mean) < spread


class Standing(NamedTuple):
  """A place in the order of a measure: rank 1 + how many are better and do not tie with it."""

  candidate: str
  summary: Summary
  rank: int


def standings(measure: Measure, summaries: Mapping[str, Summary]) -> list[Standing]:
  """Returns the candidates that have a measure, the best mean first."""
  sign = -1 if measure.better == "higher" else 1
  order = sorted(
    (name for name, x in summaries.items() if x.mean is not None),
    key=lambda name: sign * (summaries[name].mean or 0.0),
  )
  return [
    Standing(
      name,
      summaries[name],
      1 + sum(not tied(summaries[name], summaries[other]) for other in order[:place]),
    )
    for place, name in enumerate(order)
  ]


class Choice(NamedTuple):
  """What to choose for a purpose: the best candidate and those that tie with it; none if empty."""

  purpose: str
  candidates: tuple[str, ...]
  why: str


# For each purpose the measures that speak for it; the first that some candidate has decides.
PURPOSES: Mapping[str, tuple[str, ...]] = {
  "generation": ("completion",),
  "understanding": ("classification", "pairs"),
  "question answering": ("choice_of_four", "infilling"),
}
# One model for all: the mean rank in these. A candidate that lacks a measure is last there.
ABILITIES = ("completion", "choice_of_four", "pairs", "classification")

Table = Mapping[str, Mapping[str, Summary]]  # {measure: {candidate: summary}}


def table(judged: Mapping[str, Sequence[Mapping[str, Measured]]]) -> dict[str, dict[str, Summary]]:
  """Returns the Table of all measures that some run has or gives a reason for not having.

  Args:
    judged: {candidate: measures of each of its seeds}.
  """
  absent = Measured(None, "not measured")
  return {
    name: {
      candidate: summary([seed.get(name, absent) for seed in seeds])
      for candidate, seeds in judged.items()
    }
    for name in MEASURES
    if any(name in seed for seeds in judged.values() for seed in seeds)
  }


def choices(measured: Table) -> list[Choice]:
  """Returns what to choose for each purpose, and for all of them together."""
  found = [_choice(purpose, names, measured) for purpose, names in PURPOSES.items()]
  return [*found, _for_all(measured)]


def _choice(purpose: str, names: Sequence[str], measured: Table) -> Choice:
  for name in names:
    summaries = measured.get(name, {})
    order = standings(MEASURES[name], summaries)
    if order:
      best = _best(purpose, name, order, whole=len(order) == len(summaries))
      return best._replace(why=best.why + _without(summaries))
  wanted = " or ".join(MEASURES[name].title for name in names)
  return Choice(purpose, (), f"No candidate was measured by {wanted}.")


def _best(purpose: str, name: str, order: Sequence[Standing], whole: bool) -> Choice:
  """Returns the choice by one measure, with the figures of the best and of the next one.

  Args:
    whole: whether all candidates have the measure.
  """
  measure, first = MEASURES[name], order[0]
  best = tuple(x.candidate for x in order if tied(x.summary, first.summary))
  rest = [x for x in order if x.candidate not in best]
  figures = [f"{x.candidate} {shown(measure, x.summary)}" for x in order if x.candidate in best]
  why = f"{measure.title}: {', '.join(figures)}"
  if len(best) > 1:
    why += " (all tie)" if whole and not rest else " (a tie)"
  if rest:
    why += f"; next {rest[0].candidate} {shown(measure, rest[0].summary)}"
  elif len(order) == 1:
    why += "; no other candidate has it"
  if at_chance(measure, first.summary):
    why += f". This is not better than guessing ({shown_value(measure, measure.chance)})"
  return Choice(purpose, best, f"{why}.")


def _without(summaries: Mapping[str, Summary]) -> str:
  """Returns a sentence about the candidates that have no value of a measure; "" if all have."""
  missing = [f"{name} ({x.reason})" for name, x in summaries.items() if x.mean is None]
  return f" Not ranked, as they have no value: {'; '.join(missing)}." if missing else ""


def at_chance(measure: Measure, of: Summary) -> bool:
  """Returns whether a mean is not above the value of guessing by more than its spread."""
  if measure.chance is None or of.mean is None:
    return False
  return of.mean - measure.chance <= (of.spread or 0.0)


def _for_all(measured: Table) -> Choice:
  ranks = mean_ranks(measured)
  purpose = "one model for all"
  if not ranks:
    return Choice(purpose, (), "No candidate was measured.")
  best = min(ranks.values())
  names = [MEASURES[x].title for x in ABILITIES if standings(MEASURES[x], measured.get(x, {}))]
  figures = ", ".join(f"{name} {rank:.3g}" for name, rank in sorted(ranks.items(), key=_by_rank))
  why = f"mean rank in {', '.join(names)}: {figures}. A candidate without a measure is last in it."
  return Choice(purpose, tuple(name for name, rank in ranks.items() if rank == best), why)


def _by_rank(item: tuple[str, float]) -> float:
  return item[1]


def mean_ranks(measured: Table) -> dict[str, float]:
  """Returns {candidate: mean rank over ABILITIES}; those that tie share a rank."""
  ranks: dict[str, list[int]] = {}
  for name in ABILITIES:
    order = standings(MEASURES[name], measured.get(name, {}))
    places = {x.candidate: x.rank for x in order}
    if places:
      for candidate in measured[name]:
        ranks.setdefault(candidate, []).append(places.get(candidate, len(measured[name])))
  return {candidate: statistics.fmean(places) for candidate, places in ranks.items()}


def shown(measure: Measure, of: Summary) -> str:
  """Returns "2.31 ± 0.02 bits/byte", or "-" where there is no value."""
  if of.mean is None:
    return "-"
  value = shown_value(measure, of.mean, unit=False)
  if of.spread:
    value += f" ± {shown_value(measure, of.spread, unit=False)}"
  few = f" ({len(of.values)} of {of.seeds} seeds)" if len(of.values) < of.seeds else ""
  return f"{value} {measure.unit}".strip() + few


def shown_value(measure: Measure, value: float | None, unit: bool = True) -> str:
  """Returns a value as the report prints it; shares are printed in %."""
  if value is None:
    return "-"
  if measure.unit == "%":
    text = f"{100 * value:.1f}"
  elif measure.unit in ("FLOPs", "bytes"):
    text = f"{value:.3g}"
  elif measure.unit == "tokens/s":
    text = f"{value:,.0f}"
  else:
    text = f"{value:.3f}"
  return f"{text} {measure.unit}".strip() if unit else text
