"""The meter: how the time of a period is divided."""

import types

import pytest

from t5x_style.training import metrics

SUMS = {"loss": 4.0, "weight": 2.0, "correct": 1.0, "z_loss": 0.0, "tokens": 8.0}
SUMS |= {"learning_rate": 0.1, "grad_norm": 1.0}


def test_data_wait_is_the_share_of_each_period(monkeypatch):
  clock = types.SimpleNamespace(now=0.0)
  monkeypatch.setattr(metrics, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
  records = []
  measured = metrics.Meter(2, lambda step, values: records.append(values))
  for step in range(1, 5):
    with measured.waiting():
      clock.now += 1.0 if step < 3 else 0.0
    clock.now += 3.0
    measured.add(step, SUMS)
    if step == 1:
      with measured.paused():  # As for an evaluation: no part of the period.
        clock.now += 100.0
  measured.drain()
  # A record is made when the step after is there: 2 of 2 * 4 + 3 s, then none.
  assert [r["data_wait"] for r in records] == pytest.approx([2 / 11, 0.0])
