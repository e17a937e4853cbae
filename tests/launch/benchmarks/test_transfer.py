"""The search for the best rate, and that a finished run is not run again."""

import math

import pytest

from launch.benchmarks import transfer


def test_the_search_ends_with_both_neighbours_of_the_best():
  tried = []

  def loss(exponent):
    tried.append(exponent)
    return (exponent + 5.3) ** 2

  losses = transfer.search(loss, start=-8)
  assert set(losses) == {-9, -8, -7, -6, -5, -4} and len(tried) == 6
  assert transfer.optimum(losses) == pytest.approx(-5.3)


def test_runs_that_diverge_bound_the_search():
  losses = transfer.search(lambda exponent: math.inf if exponent > -6 else -exponent, start=-6)
  assert losses == {-7: 7, -6: 6, -5: math.inf}
  assert transfer.optimum(losses) == -6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The run ends within its warm-up")
def test_finished_runs_are_not_run_again(tmp_path, monkeypatch):
  """And are run again with other settings."""
  given = {
    "records": str(tmp_path / "records.jsonl"),
    "objectives": ("masked LM",),
    "times": (1, 2),
  }
  short = ["TRAIN_STEPS = 3", "EVAL_BATCHES = 2"]
  rows = list(transfer.measure(gin_bindings=short, **given))
  assert [row["label"] for row in rows] == [
    "with BASE_EMB_DIM, width 128",
    "with BASE_EMB_DIM, width 256",
    "without BASE_EMB_DIM, width 256",
  ]
  assert rows[0]["losses"].keys() & rows[1]["losses"].keys()
  with monkeypatch.context() as patch:
    patch.delattr(transfer.Trials, "_run")
    assert list(transfer.measure(gin_bindings=short, **given)) == rows
    with pytest.raises(AttributeError, match="_run"):
      next(transfer.measure(gin_bindings=[*short, "optimizers.adamw.b2 = 0.9"], **given))
