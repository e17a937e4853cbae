"""Learning-rate schedules at points known by hand."""

import math

import pytest

from t5x_style.training import schedules


def test_rsqrt_is_t5s():
  schedule = schedules.rsqrt(base=1.0, warmup_steps=10_000)
  assert float(schedule(0)) == pytest.approx(0.01)
  assert float(schedule(10_000)) == pytest.approx(0.01)
  assert float(schedule(40_000)) == pytest.approx(0.005)


def test_cosine():
  schedule = schedules.cosine(2.0, total_steps=110, warmup_steps=10, final_fraction=0.1)
  assert float(schedule(5)) == pytest.approx(1.0)
  assert float(schedule(10)) == pytest.approx(2.0)
  middle = 2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
  assert float(schedule(60)) == pytest.approx(middle)
  assert float(schedule(110)) == pytest.approx(0.2)


def test_wsd_is_flat_then_falls():
  schedule = schedules.wsd(1.0, total_steps=100, warmup_steps=10, decay_fraction=0.2)
  assert [float(schedule(i)) for i in (5, 10, 50, 80)] == pytest.approx([0.5, 1, 1, 1])
  assert float(schedule(90)) == pytest.approx(0.5)
  assert float(schedule(100)) == pytest.approx(0.0)


def test_linear():
  schedule = schedules.linear(1.0, total_steps=20, warmup_steps=10, final_fraction=0.5)
  assert [float(schedule(i)) for i in (0, 5, 10, 15, 20)] == pytest.approx([0, 0.5, 1, 0.75, 0.5])


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd", "constant"])
def test_nanogpts_warm_up_wastes_no_step(name):
  total = {} if name == "constant" else {"total_steps": 100}
  schedule = getattr(schedules, name)(2.0, **total, warmup_steps=4, warmup_from_zero=False)
  rates = [float(schedule(step)) for step in range(5)]
  assert rates == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
  without = getattr(schedules, name)(2.0, **total, warmup_from_zero=False)
  assert float(without(0)) == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd"])
def test_a_trial_shorter_than_the_warm_up_only_warms_up(name):
  with pytest.warns(UserWarning, match="TRAIN_STEPS = 20, WARMUP_STEPS = 50"):
    schedule = getattr(schedules, name)(1.0, total_steps=20, warmup_steps=50)
  assert [float(schedule(step)) for step in (0, 10, 20)] == pytest.approx([0, 0.2, 0.4])
