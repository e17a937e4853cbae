"""Trackers of experiments: what they are sent, also by a run that resumes."""

import sys
import types

import pytest

from t5x_style.reporting.writers import MetricWriters


@pytest.mark.parametrize(
  "variable, package", [("WANDB_PROJECT", "wandb"), ("MLFLOW_EXPERIMENT_NAME", "mlflow")]
)
def test_a_requested_tracker_has_to_be_installed(tmp_path, monkeypatch, variable, package):
  monkeypatch.setenv(variable, "mine")
  monkeypatch.setitem(sys.modules, package, None)
  wanted = rf"{variable} = 'mine' is set, but {package} is not.*'t5x_style\[{package}\]'"
  with pytest.raises(ValueError, match=wanted):
    MetricWriters(tmp_path)


def test_weights_and_biases_keeps_the_run(tmp_path, monkeypatch):
  started, logged = [], []
  run = types.SimpleNamespace(
    define_metric=lambda *args, **kwargs: None, log=logged.append, finish=lambda: None
  )
  wandb = types.SimpleNamespace(init=lambda **kwargs: started.append(kwargs) or run)
  monkeypatch.setitem(sys.modules, "wandb", wandb)
  monkeypatch.setenv("WANDB_PROJECT", "mine")
  for step in (0, 5):
    with MetricWriters(tmp_path, step) as out:
      out.write(step + 1, "train", {"loss": 1.0})
  assert started[0]["id"] == started[1]["id"]
  assert logged == [{"step": 1, "train/loss": 1.0}, {"step": 6, "train/loss": 1.0}]


def test_mlflow_has_each_record_once_after_a_kill_and_what_is_different_again(
  tmp_path, monkeypatch
):
  """With MLflow's own store of files; pip install mlflow-skinny."""
  mlflow = pytest.importorskip("mlflow")
  monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
  monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
  monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "server"))
  killed = MetricWriters(tmp_path / "run")  # It is never closed.
  for step in (1, 2, 3):
    killed.write(step, "train", {"loss": 1.0 / step, "accuracy": 0.5})
  killed.write(2, "validation", {"loss": 7.0})
  with MetricWriters(tmp_path / "run", 2) as resumed:
    for step in (3, 4):
      resumed.write(step, "train", {"loss": 1.0 / step, "accuracy": 0.5})
    resumed.write(4, "validation", {"loss": 6.0})
    resumed.rewind(3)  # The run rolls back: step 4 is another one then, step 3 is the same.
    resumed.write(3, "train", {"loss": 1 / 3, "accuracy": 0.5})
    resumed.write(4, "train", {"loss": 0.2, "accuracy": 0.5})
  client = mlflow.MlflowClient()
  (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
  assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
  history = {
    name: [
      (metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)
    ]
    for name in ("train/loss", "validation/loss")
  }
  assert history["train/loss"] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25), (4, 0.2)]
  assert history["validation/loss"] == [(2, 7.0), (4, 6.0)]
