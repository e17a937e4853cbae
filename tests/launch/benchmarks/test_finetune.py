"""The comparison of fine-tuning with and without pre-training runs, in miniature."""

import pytest

from launch.benchmarks import finetune


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The run ends within its warm-up", "ignore:.*are cut at the end")
@pytest.mark.filterwarnings("ignore:.*new and begin at random values")
def test_both_kinds_of_runs_are_shown():
  rows = list(finetune.measure(seeds=(0,), period=1, steps=2))
  labels = [label for label in finetune.LABELS if label.endswith(("seed 0", "mean"))]
  assert [row["label"] for row in rows] == labels * 2
  for first, mean in zip(rows[::2], rows[1::2], strict=True):
    assert first["loss 1"] == mean["loss 1"] > first["loss 2"] and 0 <= first["accuracy"] <= 1
  assert len({row["loss 1"] for row in rows}) == 4  # of two tasks and two kinds of start
