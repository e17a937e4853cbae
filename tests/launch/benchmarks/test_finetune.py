"""The comparison of fine-tuning with and without pre-training runs, in miniature."""

import pytest

from launch.benchmarks import finetune


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The run ends within its warm-up", "ignore:.*are cut at the end")
@pytest.mark.filterwarnings("ignore:.*new and begin at random values")
def test_both_kinds_of_runs_are_shown():
  rows = list(finetune.measure(pretraining_steps=2, steps=2, seeds=(0,), period=1))
  assert [row["label"] for row in rows] == [
    label for label in finetune.LABELS if label.endswith(("seed 0", "mean"))
  ]
  for row in rows:
    assert 0 <= row["1"] <= 1 and row["2"] == pytest.approx(row["2"])
  assert rows[0]["1"] == rows[1]["1"]
