"""The meter: how the time of a period is divided."""

import time

import pytest

from t5x_style.training.meter import Meter

SUMS = {"loss": 4.0, "weight": 2.0, "correct": 1.0, "z_loss": 0.0, "tokens": 8.0}
SUMS |= {"learning_rate": 0.1, "grad_norm": 1.0}


def test_data_wait_is_the_share_of_each_period():
  records = []
  meter = Meter(2, lambda step, values: records.append(values | {"now": time.perf_counter()}))
  start = time.perf_counter()
  for step in range(1, 5):
    if step < 3:
      with meter.waiting():
        time.sleep(0.1)
    meter.add(step, SUMS)
    if step == 1:
      with meter.paused():  # As for an evaluation: no part of the period.
        time.sleep(0.2)
  meter.drain()
  first, second = records
  # 0.2 s of what was not paused, and of that nearly all.
  assert first["data_wait"] > 0.9
  assert first["data_wait"] == pytest.approx(0.2 / (first["now"] - start - 0.2), rel=0.1)
  assert second["data_wait"] == 0
