"""The figures at the head of a report, and the states of runs."""

import pytest

from t5x_style.results import run_folder, run_table


def column(rows):
  return {row[0]: row[1] for row in rows}


def test_the_figures_are_those_of_the_records(write_run, train_record):
  records = [
    train_record(10, tokens_per_second=100.0, data_wait=0.1),
    train_record(20, tokens_per_second=4000.0, data_wait=0.2, loss=4.4, spikes=3, skipped_steps=1),
    train_record(30, tokens_per_second=3000.0, data_wait=0.3, loss=4.5, spikes=3, skipped_steps=1),
    {"step": 10, "split": "validation", "loss": 5.1, "accuracy": 0.25, "seconds": 6.0},
    {"step": 20, "split": "validation", "loss": 4.9, "accuracy": 0.5, "seconds": 12.0},
    {"step": 30, "split": "validation", "loss": 5.0, "accuracy": 0.375, "seconds": 185.0},
  ]
  info = {"facts": {"model": "a model", "data": "text"}, "train_steps": 2000, "step_flops": 1e9}
  run = run_folder.read(write_run(records=records, run_info__json=info))
  assert column(run_table.summary([run], now=0)) == {
    "state": "unknown: the run has written no heartbeat.json",
    "step": "30 of 2,000",
    "model": "a model",
    "data": "text",
    "tokens read": "15,360",
    "FLOPs": "3e+10",
    "time": "3 min 05 s",
    "training loss": "4.500",
    "training accuracy": "3.0%",
    "validation loss": "5.000; best 4.900 at step 20",
    "validation accuracy": "37.5%; best 50.0% at step 20",
    "tokens per second, median": "3,000",
    "waiting for data, median": "20.0%",
    "skipped steps": 1,
    "spikes": 3,
  }


def test_a_run_without_records_has_its_state_only(write_run):
  assert column(run_table.summary([run_folder.read(write_run())], now=0)) == {
    "state": "unknown: the run has written no heartbeat.json",
    "step": "0",
  }


def test_rows_that_no_run_fills_are_left_out(write_run, train_record):
  runs = [run_folder.read(write_run(name, [train_record(5)])) for name in ("one", "two")]
  names = [row[0] for row in run_table.summary(runs, now=0)]
  assert "tokens read" in names and "FLOPs" not in names and "model" not in names


@pytest.mark.parametrize(
  "beat, text",
  [
    ({"state": "finished", "written_time": 0}, "finished"),
    ({"state": "stopped", "written_time": 0}, "stopped by a signal, saved"),
    ({"state": "training", "written_time": 990}, "training"),
    (
      {"state": "saving", "written_time": 900},
      "no sign of life since 1970-01-01 00:15:00 UTC, while saving",
    ),
    ({"state": 3, "written_time": 900}, "unknown: the run has written no heartbeat.json"),
  ],
)
def test_what_a_run_does_is_known_from_its_heartbeat(write_run, beat, text):
  run = run_folder.read(write_run(heartbeat__json=beat))
  assert run_table.state(run, now=1000) == text


def test_values_that_are_not_finite_are_named(write_run):
  lost = {"loss": None, "not_finite": {"loss": "nan"}}
  records = [
    {"step": 1500, "split": "train", **lost},
    {"step": 1500, "split": "validation", **lost},
  ]
  run = run_folder.read(write_run(records=records))
  assert run_table.not_finite(run) == [
    "loss (training) at step 1,500: nan",
    "loss (validation) at step 1,500: nan",
  ]
  assert column(run_table.summary([run], now=0))["validation loss"] == "not finite"
  assert run_table.best(run, "validation", "loss") is None


def test_the_best_value_is_a_number(write_run):
  values = {10: (None, 0.5), 20: (3.0, None), 30: (2.0, 0.75), 40: (4.0, 0.25)}
  records = [
    {"step": step, "split": "validation", "loss": loss, "accuracy": accuracy}
    for step, (loss, accuracy) in values.items()
  ]
  run = run_folder.read(write_run(records=records))
  assert run_table.best(run, "validation", "loss") == (2.0, 30)
  assert run_table.best(run, "validation", "accuracy") == (0.75, 30)


def test_the_newest_evaluations_are_listed(write_run):
  records = [
    {
      "step": 100 * n,
      "split": "validation",
      "loss": 9.0 - n / 10,
      "pair_accuracy": n / 100,
      "loss/R_3": 1,
    }
    for n in range(1, 31)
  ]
  columns, rows = run_table.evaluations(run_folder.read(write_run(records=records)))
  assert columns == ["step", "loss", "pair accuracy", "loss/R_3"] and len(rows) == 20
  assert rows[-1] == ["3,000", "6.000", "30.0%", "1.000"] and rows[0][0] == "1,100"
