"""Predictions beside measurements: cases, errors, and a tiny step that is measured."""

import types

import pytest

from launch.benchmarks import predictions, step_cases
from t5x_style import hardware
from t5x_style.planning import absent_gpus, topologies
from t5x_style.planning.roofline import Roofline

needs_cuda = pytest.mark.skipif(
  not absent_gpus.available(), reason="JAX's CUDA plugin is not installed"
)


def test_ten_cases_of_all_architectures():
  cases = predictions.cases()
  assert tuple(case.name for case in cases) == predictions.LABELS[:-1] and len(cases) == 10
  assert len({case.config.model.architecture for case in cases}) == 3
  assert {case.config.model.remat for case in cases} == {"none", "dots", "full"}


def test_a_row_has_the_errors_and_the_factor():
  """8.1 GiB and 3 s are predicted, 8 GiB and 2.5 s measured; ideal are 2 s."""
  line = Roofline(1.5, 1.0, 0.0, 0.0, 1.5, others=0.5, expected=3.0)
  report = types.SimpleNamespace(
    topology=topologies.parse("h200:1"),
    roofline=line,
    hbm_bytes=int(8.35 * hardware.GIB),
    memory={"parameters": int(8.1 * hardware.GIB), "program": int(0.25 * hardware.GIB)},
    compile_seconds=1.0,
  )
  found = predictions.row(predictions.tiny(), report, predictions.Measured(8 * hardware.GIB, 2.5))
  assert found["memory_error"] == pytest.approx(0.1 / 8)
  assert found["time_error"] == pytest.approx(0.2)
  assert found["factor"] == pytest.approx(1.25)
  assert found["least_seconds"] == 1.5
  alone = predictions.row(predictions.tiny(), report, None)
  assert alone["expected_seconds"] == 3.0
  assert alone["memory_error"] is alone["time_error"] is alone["factor"] is None


@pytest.mark.slow
def test_a_tiny_step_is_measured_here():
  """At least its state is held: float32 parameters and two moments."""
  case = predictions.tiny()
  found = predictions.measured(case, round_seconds=0.01)
  parameters = step_cases.prepare(case).num_parameters
  assert found.bytes > 12 * parameters
  assert 0 < found.seconds < 60
  without = predictions.row(case, None, found)
  assert without["measured_seconds"] == found.seconds and "predicted_gib" not in without


@needs_cuda
@pytest.mark.slow
def test_a_tiny_step_is_predicted_for_a_gpu_that_is_absent():
  report = predictions.predict(predictions.tiny(), topologies.parse("h200:1"))
  assert report.compiled and report.fits
  row = predictions.row(predictions.tiny(), report, None)
  assert row["other_seconds"] > 0
  assert row["predicted_gib"] * hardware.GIB > 12 * report.prepared.num_parameters
