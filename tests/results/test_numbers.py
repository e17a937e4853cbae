"""Numbers at axes and in tables."""

import math

import pytest

from t5x_style.results.numbers import cell_text, short_number


@pytest.mark.parametrize(
  "value, text",
  [
    (0, "0"),
    (0.05, "0.05"),
    (250, "250"),
    (1500, "1.5k"),
    (999_999.9999999999, "1M"),
    (-2e7, "-20M"),
    (3e15, "3e+15"),
    (1e-5, "1e-05"),
  ],
)
def test_numbers_at_an_axis_are_short(value, text):
  assert short_number(value) == text


@pytest.mark.parametrize(
  "value, text",
  [
    (None, "–"),
    (math.nan, "–"),
    (12345, "12,345"),
    (123456.7, "123,457"),
    (3.14159, "3.142"),
    (0.000012345, "1.234e-05"),
    (3.2e17, "3.2e+17"),
    (True, "True"),
    ("1.5 ± 0.2", "1.5 ± 0.2"),
  ],
)
def test_cells_of_a_table_have_four_digits(value, text):
  assert cell_text(value) == text
