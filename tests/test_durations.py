"""Durations as people read them."""

import pytest

from t5x_style.durations import duration


@pytest.mark.parametrize(
  "seconds, text",
  [
    (0.44, "0.4 s"),
    (59.4, "59 s"),
    (59.7, "1 min 00 s"),
    (185, "3 min 05 s"),
    (7800, "2 h 10 min"),
  ],
)
def test_duration(seconds, text):
  assert duration(seconds) == text
