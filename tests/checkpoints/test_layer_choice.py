"""The layers that published models took from others, and the numbers that no rule covers."""

import pytest

from t5x_style.checkpoints.layer_choice import source_layers
from t5x_style.errors import UserError


def test_distilbert_has_six_of_berts_layers():
  """transformers' script that extracts them: `for teacher_idx in [0, 2, 4, 7, 9, 11]`."""
  assert source_layers("interpolate", 6, 12, "encoder") == [0, 2, 4, 7, 9, 11]


def test_more_layers_repeat_each_in_its_place():
  assert source_layers("interpolate", 6, 3, "decoder") == [0, 0, 1, 1, 2, 2]
  assert source_layers("interpolate", 5, 3, "decoder") == [0, 0, 1, 1, 2]
  assert source_layers("interpolate", 1, 12, "decoder") == [0]


def test_stacks_are_whole_copies_or_the_first_layers():
  assert source_layers("stack", 6, 3, "decoder") == [0, 1, 2, 0, 1, 2]
  assert source_layers("stack", 2, 3, "decoder") == [0, 1]


def test_solar_has_two_copies_of_24_of_mistrals_32_layers():
  assert source_layers("solar", 48, 32, "decoder") == [*range(24), *range(8, 32)]


@pytest.mark.parametrize("rule", ["interpolate", "stack", "solar"])
def test_as_many_layers_are_the_same(rule):
  assert source_layers(rule, 5, 5, "encoder") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
  ("rule", "count", "needs"),
  [
    ("stack", 5, "a multiple of 3, or fewer"),
    ("solar", 5, "an even number above 3 and up to 6"),
    ("solar", 8, "an even number above 3 and up to 6"),
    ("solar", 2, "an even number above 3 and up to 6"),
  ],
)
def test_numbers_that_a_rule_does_not_cover_are_refused(rule, count, needs):
  with pytest.raises(
    UserError, match=f"3 layers and the decoder {count}. .* needs {needs}; .inter"
  ):
    source_layers(rule, count, 3, "decoder")
