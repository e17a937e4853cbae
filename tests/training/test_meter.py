"""The meter: the share of time spent waiting, and sums that survive an interruption."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.training import meter
from t5x_style.training.guard import Guard, Verdict
from t5x_style.training.metrics import Metrics, Sums

SUMS = Sums(loss=4.0, z_loss=0.0, correct=1.0, weight=2.0, tokens=8.0)
METRICS = Metrics(
  SUMS, grad_norm=1.0, learning_rate=0.1, updated=True, verdict=Verdict.NORMAL, guard=Guard.new()
)


def test_data_wait_is_the_share_of_each_period(monkeypatch):
  clock = types.SimpleNamespace(now=0.0)
  monkeypatch.setattr(meter, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
  records = []
  measured = meter.Meter(2, lambda step, values: records.append(values))
  for step in range(1, 5):
    with measured.waiting():
      clock.now += 1.0 if step < 3 else 0.0
    clock.now += 3.0
    measured.add(step, METRICS)
    if step == 1:
      with measured.paused():  # As for an evaluation: no part of the period.
        clock.now += 100.0
  measured.drain()
  # A record is made when the step after is there: 2 of 2 * 4 + 3 s, then none.
  assert [r["data_wait"] for r in records] == pytest.approx([2 / 11, 0.0])


def test_a_wait_counts_only_if_the_device_had_no_work(monkeypatch):
  clock = types.SimpleNamespace(now=0.0)
  monkeypatch.setattr(meter, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
  records = []

  @jax.jit
  def slow_step(loss):
    square = jnp.full((512, 512), 1 / 512)
    turned = jax.lax.fori_loop(0, 400, lambda _, product: product @ square, square)
    return loss + 0 * turned[0, 0]

  slow_step(4.0).block_until_ready()  # So that the next call only dispatches.
  measured = meter.Meter(2, lambda step, values: records.append(values))
  computed = slow_step(4.0)
  measured.add(1, METRICS._replace(sums=SUMS._replace(loss=computed)))
  with measured.waiting():  # The device works all the time.
    clock.now += 1.0
  assert not computed.is_ready()
  computed.block_until_ready()
  with measured.waiting():  # The device has nothing to do.
    clock.now += 2.0
  measured.add(2, METRICS)
  measured.drain()
  assert [r["data_wait"] for r in records] == pytest.approx([2 / 3])


def test_an_interrupted_period_is_averaged_as_one():
  def measure(progress):
    records = []
    record = lambda step, values: records.append(values)
    names = ("a", "b")
    return meter.Meter(4, record, progress=progress, component_names=names), records

  def metrics(loss):
    sums = SUMS._replace(loss=loss, component_loss=np.ones(2), component_weight=np.ones(2))
    return METRICS._replace(sums=sums)

  first, _ = measure({})
  for step in (1, 2):
    first.add(step, metrics(float(step)))
  first.drain()
  saved = json.loads(json.dumps(first.progress()))
  assert saved["totals"] == {
    "loss": 3.0,
    "z_loss": 0.0,
    "correct": 2.0,
    "weight": 4.0,
    "tokens": 16.0,
    "component_loss": [2.0, 2.0],
    "component_weight": [2.0, 2.0],
  }
  assert saved["tokens"] == 16
  second, records = measure(saved)
  for step in (3, 4):
    second.add(step, metrics(float(step)))
  second.drain()
  assert records[0]["loss"] == (1 + 2 + 3 + 4) / (4 * 2)
  assert records[0]["tokens"] == 32  # that all four steps have read
  older, records = measure({k: v for k, v in saved.items() if k != "tokens"})
  for step in (3, 4):
    older.add(step, metrics(float(step)))
  older.drain()
  assert "tokens" not in records[0] and "tokens" not in older.progress()
