"""Lengths of span corruption: those published, and how a window is chosen."""

import pytest

from t5x_style.span_lengths import lengths_for_inputs, lengths_of_window


@pytest.mark.parametrize(
  "inputs, density, mean_span, raw, targets, spans",
  [
    (512, 0.15, 3, 568, 114, 28),
    (512, 0.15, 8, 588, 100, 11),
    (512, 0.5, 3, 766, 512, 128),
    (512, 0.5, 8, 908, 512, 57),
    (512, 0.15, 64, 600, 92, 1),
    (512, 0.5, 64, 1006, 512, 8),
    (1024, 0.15, 3, 1137, 229, 57),
    (1024, 0.5, 3, None, None, 256),
    (1024, 0.5, 8, None, None, 114),
    (2048, 0.15, 3, None, None, 114),
  ],
)
def test_published_lengths(inputs, density, mean_span, raw, targets, spans):
  plan = lengths_for_inputs(inputs, density, mean_span)
  assert plan.spans == spans
  if raw is not None:
    assert (plan.raw, plan.targets, plan.inputs) == (raw, targets, inputs)
  assert lengths_of_window(plan.raw, density, mean_span) == plan


def test_every_length_inverts():
  for inputs in range(8, 200):
    for density, mean_span in ((0.15, 3), (0.5, 3), (0.3, 1), (0.9, 2)):
      plan = lengths_for_inputs(inputs, density, mean_span)
      assert plan.inputs <= inputs
      longer = lengths_of_window(plan.raw + 1, density, mean_span)
      assert longer.inputs > inputs or (density == 0.5 and longer.targets > longer.inputs)
      assert 1 <= plan.spans <= plan.noise < plan.raw
