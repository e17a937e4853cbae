"""Means, spreads and ties, by hand; what is chosen, and the figures that say so."""

import math

import pytest

from t5x_style.comparison import outcome
from t5x_style.comparison.measures import MEASURES, Measured, error_of_difference
from t5x_style.comparison.outcome import Summary


def summaries(**values):
  return {name: Summary(mean, spread) for name, (mean, spread) in values.items()}


def test_mean_and_spread_over_seeds():
  seeds = [Measured(x, standard_error=0.01) for x in (0.5, 0.6, 0.7)]
  found = outcome.summary(seeds)
  assert (found.mean, found.spread) == (pytest.approx(0.6), pytest.approx(0.1))  # n - 1 = 2
  few_items = [Measured(x, standard_error=0.2) for x in (0.5, 0.6, 0.7)]
  assert outcome.summary(few_items).spread == 0.2
  assert outcome.summary([Measured(0.5)]).spread is None
  missing = outcome.summary([Measured(None, "no decoder"), Measured(None, "no decoder")])
  assert (missing.mean, missing.reason) == (None, "no decoder")


@pytest.mark.parametrize(
  ("a", "b", "tie"),
  [
    ((2.0, 0.3), (2.45, 0.4), True),  # .45 < hypot(.3, .4) = .5
    ((2.0, 0.3), (2.55, 0.4), False),
    ((2.0, None), (3.0, 0.1), True),  # Nothing is known about another seed.
    ((2.0, 0.0), (2.0, 0.0), True),
    ((2.0, 0.0), (2.1, 0.0), False),
  ],
)
def test_ties(a, b, tie):
  assert outcome.tied(Summary(*a), Summary(*b)) is tie
  assert outcome.tied(Summary(*b), Summary(*a)) is tie


def test_the_same_items_are_compared_one_by_one():
  """Both models find the same passages hard; one is a little better in each: no tie."""
  hard = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
  worse = [x + better for x, better in zip(hard, [0.1, 0.2, 0.1, 0.2, 0.1, 0.2], strict=True)]
  one, other = (_measured(values) for values in (hard, worse))
  a, b = outcome.summary([one]), outcome.summary([other])
  assert abs(a.mean - b.mean) < a.spread / 4  # The passages differ far more than the models.
  assert not outcome.tied(a, b) and not outcome.tied(b, a)
  # The variance of .1 .2 .1 .2 .1 .2 is .003, and there are six.
  assert error_of_difference(a.deviations, b.deviations) == pytest.approx((0.003 / 6) ** 0.5)


def test_models_whose_seeds_differ_more_than_they_do_tie():
  a = outcome.summary([_measured([1.0, 2.0]), _measured([1.4, 2.4])])  # means 1.5, 1.9
  b = outcome.summary([_measured([1.1, 2.1]), _measured([1.5, 2.5])])
  assert error_of_difference(a.deviations, b.deviations) == pytest.approx(0)
  assert outcome.tied(a, b)  # .1 < sqrt(2) x .28


def test_items_that_one_model_was_not_asked_are_not_paired():
  a, b = outcome.summary([_measured([1.0, 2.0])]), outcome.summary([_measured([1.1, 2.1, 3.1])])
  assert outcome.tied(a, b)
  unknown = outcome.summary([_measured([1.0, 2.0]), Measured(1.5)])
  assert unknown.deviations is None


def _measured(values):
  mean, count = sum(values) / len(values), len(values)
  error = (sum((x - mean) ** 2 for x in values) / (count - 1) / count) ** 0.5
  deviations = tuple((x - mean) / count for x in values)
  return Measured(mean, standard_error=error, count=count, deviations=deviations)


def test_what_is_not_finite_is_no_value():
  found = outcome.summary([Measured(math.nan), Measured(2.0), Measured(math.inf)])
  assert found.mean == 2 and found.values == (2.0,)
  none = outcome.summary([Measured(math.nan)])
  assert none.mean is None and none.reason == "not a finite number"


def test_those_that_tie_share_a_rank():
  found = outcome.standings(
    MEASURES["completion"], summaries(x=(3.0, 0.1), y=(2.0, 0.1), z=(2.1, 0.1))
  )
  assert [(x.candidate, x.rank) for x in found] == [("y", 1), ("z", 1), ("x", 3)]


MEASURED = {
  "completion": summaries(causal=(2.0, 0.05), ul2=(2.3, 0.05), masked=(None, None)),
  "choice_of_four": summaries(causal=(0.5, 0.05), ul2=(0.52, 0.05), masked=(0.8, 0.02)),
  "pairs": summaries(causal=(0.7, 0.01), ul2=(0.75, 0.01), masked=(0.6, 0.01)),
}


def test_what_to_choose_for_each_purpose():
  found = {x.purpose: x for x in outcome.choices(MEASURED)}
  assert found["generation"].candidates == ("causal",)
  assert "causal 2.000 ± 0.050 bits/byte; next ul2 2.300" in found["generation"].why
  # Nobody was fine-tuned, so minimal pairs speak for understanding.
  assert found["understanding"].candidates == ("ul2",)
  assert "75.0 ± 1.0 %" in found["understanding"].why
  assert found["question answering"].candidates == ("masked",)
  # Ranks: causal 1, 2, 2; ul2 2, 2, 1; masked 3 (it has no completion), 1, 3.
  ranks = outcome.mean_ranks(MEASURED)
  assert ranks == pytest.approx({"causal": 5 / 3, "ul2": 5 / 3, "masked": 7 / 3})
  assert found["one model for all"].candidates == ("causal", "ul2")


def test_a_tie_is_called_a_tie_and_guessing_is_called_guessing():
  only = {"choice_of_four": summaries(a=(0.26, 0.05), b=(0.24, 0.05), c=(0.1, 0.02))}
  choice = {x.purpose: x for x in outcome.choices(only)}["question answering"]
  assert choice.candidates == ("a", "b")
  assert "(a tie); next c 10.0 ± 2.0 %" in choice.why
  assert "not better than guessing (25.0 %)" in choice.why


def test_those_without_a_value_are_named():
  table = outcome.table(
    {
      "A": [{"completion": Measured(None, "its loss is no likelihood")}],
      "B": [{"completion": Measured(2.0, standard_error=0.1)}, {}, {}],
    }
  )
  (generation, *_) = outcome.choices(table)
  assert generation.candidates == ("B",)
  assert "B 2.000 ± 0.100 bits/byte (1 of 3 seeds)" in generation.why
  assert "Not ranked, as they have no value: A (its loss is no likelihood)." in generation.why
  two = {"A": Summary(2.0, 0.1), "B": Summary(2.05, 0.1)}
  tie = outcome.choices({"completion": two | {"C": Summary(None, reason="it failed")}})[0].why
  assert "(a tie)" in tie and "C (it failed)" in tie
  assert "(all tie)" in outcome.choices({"completion": two})[0].why


def test_without_a_measure_nothing_is_chosen():
  generation, *_ = outcome.choices({"pairs": summaries(a=(0.7, 0.1))})
  assert generation.candidates == () and "completion of passages" in generation.why


def test_the_table_keeps_the_reasons():
  judged = {"a": [{"completion": Measured(2.0)}], "b": [{"completion": Measured(None, "no")}]}
  found = outcome.table(judged)
  assert list(found) == ["completion"]
  assert found["completion"]["a"].mean == 2.0 and found["completion"]["b"].reason == "no"


def test_values_as_they_are_printed():
  shown = lambda name, mean, spread: outcome.shown(MEASURES[name], Summary(mean, spread))
  assert shown("pairs", 0.5, 0.123) == "50.0 ± 12.3 %"
  assert shown("tokens_per_second", 12345.6, None) == "12,346 tokens/s"
  assert shown("flops", 8.04e12, 0.0) == "8.04e+12 FLOPs"
  assert outcome.shown(MEASURES["pairs"], Summary(None)) == "-"
  assert math.isclose(outcome.summary([Measured(1.0), Measured(3.0)]).spread, math.sqrt(2))
