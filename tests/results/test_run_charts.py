"""Which charts there are, and that they show the records."""

import math

import numpy as np
import pytest

from t5x_style.results import run_charts, run_folder


@pytest.fixture
def charts_of(write_run):
  """Returns {key: chart} of runs, given the records of each."""

  def charts(*runs):
    named = [
      (f"run {n}", run_folder.read(write_run(f"r{n}", x, run_info__json={"step_flops": 10.0})))
      for n, x in enumerate(runs)
    ]
    found = run_charts.sections(named)
    return {key: chart for section in found for key, chart, _ in section.charts}

  return charts


def validation(step, **values):
  return {"step": step, "split": "validation", "loss": 9 - step / 20, "seconds": step, **values}


def test_one_run_has_training_and_validation_in_a_chart(charts_of, train_record):
  charts = charts_of([train_record(10), train_record(20), validation(20, accuracy=0.25)])
  assert list(charts) == [
    *(f"loss-{axis}" for axis in ("steps", "tokens", "flops", "time")),
    *("accuracy", "learning_rate", "grad_norm", "tokens_per_second", "data_wait"),
  ]
  training, held_out = charts["loss-tokens"].series
  assert (training.label, held_out.label, held_out.dashed) == ("training", "validation", True)
  assert list(training.x) == [5120, 10240] and list(training.y) == [0.8, 0.4]
  assert list(held_out.x) == [10240] and list(held_out.y) == [8]
  assert list(charts["loss-flops"].series[0].x) == [100, 200]
  assert list(charts["accuracy"].series[1].y) == [25]
  assert charts["learning_rate"].series[0].label == ""


def test_shares_of_parts_have_one_chart(charts_of, train_record):
  values = {"share/a": 0.75, "share/b": 0.25, "epochs/a": 2.0, "stage": 1}
  charts = charts_of([train_record(10, **values), train_record(20, **values)])
  assert [s.label for s in charts["share"].series] == ["a", "b"]
  assert [list(s.y) for s in charts["share"].series] == [[75, 75], [25, 25]]
  assert list(charts["epochs"].series[0].y) == [2, 2]
  assert not [key for key in charts if "/" in key or "stage" in key]


def test_the_starts_of_stages_are_marked(write_run, train_record):
  stages = [
    {"first_step": first, "last_step": first + 10, "step_flops": 2.0} for first in (0, 10, 20)
  ]
  info = {"step_flops": 2.0, "stages": stages}
  run = run_folder.read(write_run("r", [train_record(5), train_record(15)], run_info__json=info))
  charts = {key: chart for x in run_charts.sections([("r", run)]) for key, chart, _ in x.charts}
  assert charts["loss-steps"].marks == (10,)  # The third stage has not begun.
  assert charts["loss-tokens"].marks == ()
  assert "stroke-dasharray" in charts["loss-steps"].svg()


def test_several_runs_keep_their_colours(charts_of, train_record):
  plain = [train_record(10), train_record(20)]
  charts = charts_of([{**plain[0], "tokens": None}], plain, [*plain, validation(20)])
  assert [s.label for s in charts["loss-train-steps"].series] == ["run 0", "run 1", "run 2"]
  assert [s.color for s in charts["loss-train-tokens"].series] == [1, 2]
  assert [s.color for s in charts["loss-validation-steps"].series] == [2]
  assert not any(s.dashed for chart in charts.values() for s in chart.series)


def test_parts_of_a_mixture_have_curves_of_their_own(charts_of, train_record):
  parts = {"loss/code": 3.0, "loss/<b>": 4.0}
  one = charts_of([train_record(10, **parts), validation(10, **{"loss/code": 3.5})])
  assert [s.label for s in one["loss-parts-train"].series] == ["code", "<b>"]
  assert list(one["loss-parts-validation"].series[0].y) == [3.5]


def test_parts_that_several_runs_have_are_in_one_chart(charts_of, train_record):
  runs = [[train_record(10, **{"loss/code": 3.0 + n, f"loss/only {n}": 1.0})] for n in (0, 1)]
  two = charts_of(*runs)
  assert [list(s.y) for s in two["loss/code-train"].series] == [[3.0], [4.0]]
  assert two["loss/code-train"].y_label == "nats per target token"
  assert [s.label for s in two["loss-parts-train-2"].series] == ["only 1"]
  assert two["loss-parts-train-2"].title == "run 1: training loss of each part"


def test_metrics_with_names_of_their_own_are_shown(charts_of, train_record):
  charts = charts_of([train_record(10), validation(10, my_score=0.5)])
  assert charts["my_score"].y_label == "my_score"


def test_events_are_drawn_only_if_there_were_some(charts_of, train_record):
  quiet = charts_of([train_record(10, skipped_steps=0)])
  assert "skipped_steps" not in quiet and "spikes" not in quiet


def test_skipped_steps_are_counted(charts_of, train_record):
  charts = charts_of([train_record(10), train_record(20, skipped_steps=2, spikes=1)])
  assert list(charts["skipped_steps"].series[0].y) == [0, 2]
  assert list(charts["spikes"].series[0].y) == [0, 1]  # It is written once there is one.


def test_long_curves_are_thinned_to_means_and_bands():
  x, y = np.arange(10.0), np.array([1, 3, 5, math.nan, math.nan, math.nan, 2, math.inf, 0, 8])
  points, means, low, high, count = run_charts.thinned(x, y, most=5)
  assert count == 2 and points.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
  np.testing.assert_array_equal(means, [2, 5, math.nan, 2, 4])
  np.testing.assert_array_equal(low, [1, 5, math.nan, 2, 0])
  np.testing.assert_array_equal(high, [3, 5, math.nan, 2, 8])
  assert run_charts.thinned(x, y, most=10)[1] is y


def test_a_long_run_says_what_its_line_is(charts_of, train_record, write_run):
  records = [train_record(step) for step in range(1, 902)]
  run = run_folder.read(write_run("long", records))
  (section, *_) = run_charts.sections([("long", run)])
  _, chart, caption = section.charts[0]
  assert caption == "The line is the mean of 3 records, the band goes from least to greatest."
  assert len(chart.series[0].x) == 301


@pytest.mark.parametrize(
  "seconds, label, last",
  [(100, "seconds", 100), (3600, "minutes", 60), (36000, "hours", 10), (864000, "days", 10)],
)
def test_time_has_a_fitting_unit(charts_of, train_record, seconds, label, last):
  chart = charts_of([train_record(1), train_record(2, seconds=seconds)])["loss-time"]
  assert chart.x_label == label
  assert chart.series[0].x[-1] == pytest.approx(last)


def test_a_norm_that_explodes_has_a_logarithmic_axis(charts_of, train_record):
  calm = [train_record(step) for step in range(1, 9)]
  charts = charts_of([*calm, train_record(9, grad_norm=1e6, data_wait=0.9)])
  assert charts["grad_norm"].log_y
  assert not charts["data_wait"].log_y and not charts["loss-steps"].log_y


def test_what_is_never_finite_is_not_drawn(charts_of, train_record):
  charts = charts_of([train_record(1, grad_norm=None, not_finite={"grad_norm": "nan"})])
  assert "grad_norm" not in charts and "loss-steps" in charts
