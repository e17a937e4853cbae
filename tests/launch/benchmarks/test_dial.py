"""The constants follow from the losses, and finished runs are not run again."""

import numpy as np
import pytest

from launch.benchmarks import dial
from t5x_style.planning import size_laws


def test_the_constants_are_the_lowest_points_of_parabolas():
  """Of rows around 2^1.7, of rates around 2^-7.3; rows of 128 tokens, a run of 160,000."""
  of_rows = {x: 2.0 + (x - 1.7) ** 2 for x in (1, 2, 3)}
  of_rates = {x: 2.0 + (x + 7.3) ** 2 for x in (-9, -8, -7, -6)}
  batch, rate = dial.constants(of_rows, of_rates, 128, 160_000)
  assert batch * 400 == pytest.approx(128 * 2**1.7)
  assert rate == pytest.approx(2**-7.3)


def test_rows_are_cut_into_batches_of_another_size():
  batches = [{"x": np.arange(8).reshape(4, 2)}, {"x": np.arange(8, 16).reshape(4, 2)}]
  assert [b["x"].tolist() for b in dial._cut(batches, 2)] == [
    [[0, 1], [2, 3]],
    [[4, 5], [6, 7]],
    [[8, 9], [10, 11]],
    [[12, 13], [14, 15]],
  ]


def test_every_objective_of_the_table_can_be_measured():
  assert dial.OBJECTIVES.keys() == size_laws.LAWS.keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The run ends within its warm-up")
def test_finished_runs_are_not_run_again(tmp_path, monkeypatch):
  given = {
    "records": str(tmp_path / "records.jsonl"),
    "case": "causal",
    "tiny": True,
    "gin_bindings": ("EVAL_BATCHES = 2", "TASK_FEATURE_LENGTHS = {'targets': 16}"),
  }
  rows = list(dial.measure(**given))
  assert [row["label"][:5] for row in rows].count("batch") == 1
  grid = [row for row in rows if row["label"].startswith("grid")]
  assert len(grid) == 12 and len({row["width"] for row in grid}) == 4
  assert rows[-1]["label"].startswith("chosen")
  assert rows[-1]["loss"] == pytest.approx(
    (1 + rows[-1]["to_best"]) * min(row["loss"] for row in grid)
  )
  monkeypatch.delattr(dial.transfer.Trials, "_run")
  assert list(dial.measure(**given)) == rows
