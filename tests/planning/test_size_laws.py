"""What repeated text is worth, and whose constants an objective has."""

import pytest

from t5x_style.planning import size_laws


def test_text_that_is_repeated_is_worth_less():
  """R* = 15.39: four epochs are almost new text, forty are not (Muennighoff et al. 2023, 5)."""
  assert (
    size_laws.worth(100, 100) == size_laws.worth(100, 1000) == size_laws.worth(100, None) == 100
  )
  assert size_laws.worth(400, 100) == pytest.approx(372.6, abs=0.2)
  assert size_laws.worth(4000, 100) == pytest.approx(1517, abs=1)
  assert size_laws.worth(1e9, 100) < 100 * (1 + 15.4)


def test_an_objective_without_constants_has_those_of_its_architecture():
  assert size_laws.nearest("decoder_only", "causal_lm") == "causal_lm"
  assert size_laws.nearest("decoder_only", "span_corruption") == "span_corruption"
  assert size_laws.nearest("encoder_only", "roberta") == "masked_lm"
  assert size_laws.nearest("encoder_decoder", None) == "span_corruption"


def test_larger_models_and_more_text_are_better():
  assert size_laws.reducible_loss(2e6, 1e6) < size_laws.reducible_loss(1e6, 1e6)
  assert size_laws.reducible_loss(1e6, 2e6) < size_laws.reducible_loss(1e6, 1e6)


def test_batches_grow_and_rates_fall_with_the_run():
  law = size_laws.Law(batch=2.0, rate=0.01, tokens=1e6, flops=1e12)
  assert law.batch_tokens(4e6) == pytest.approx(4000)
  assert law.peak_rate(1e6) == 0.01
  assert law.peak_rate(16e6) == pytest.approx(0.005)
