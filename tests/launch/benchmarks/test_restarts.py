"""The startup benchmark resumes real runs, from checkpoints that no training has made."""

import pytest

from launch.benchmarks import restarts, startup, train_starts


@pytest.mark.slow
def test_runs_resume_from_each_step():
  early, late = restarts.measure(["JSON lines"], steps=(2, 30), rounds=1)
  assert (early["label"], late["label"]) == ("from step 2", "from step 30")
  assert early["ratio"] == 1
  assert late["ratio"] == late["rounds"][0] / early["rounds"][0]
  assert late["total_seconds"] > late["before_seconds"] > 1  # Importing JAX takes longer.
  assert {*early, *late} >= {"group", "before_seconds", "compile_seconds"}


def test_a_record_is_found_whatever_the_width_of_its_step():
  """The terminal pads the number of a step to the width of the last one."""
  assert train_starts._beginnings(101)[-1] == "step 101/"
  assert train_starts._beginnings(20_001)[-1] == "step 20,001/"


def test_the_labels_fit_the_table():
  assert set(restarts.LABELS) < set(startup.LABELS)
