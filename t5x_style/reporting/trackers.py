"""Sends metrics to trackers of experiments: Weights & Biases and MLflow, each an extra.

Another tracker is a class with the methods of writers.Writer, and its variable in TRACKERS.
"""

import importlib
import math
import os
import time
import uuid
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from etils import epath

from t5x_style.errors import UserError
from t5x_style.reporting.record_file import is_local


def requested(model_dir: epath.Path) -> list[Any]:
  """Opens the trackers whose variables of the environment are set.

  Raises:
    UserError: the package of one is not installed.
  """
  return [
    tracker(model_dir, os.environ[variable])
    for variable, tracker in TRACKERS.items()
    if os.environ.get(variable)
  ]


class WeightsAndBiases:
  """Sends records as `train/loss`, ... to the project that WANDB_PROJECT names.

  MODEL_DIR/wandb-id.txt holds the id of the run, so that a resumed run is the same run there.
  """

  def __init__(self, model_dir: epath.Path, project: str):
    wandb = _imported("wandb", "WANDB_PROJECT", project)
    id_file = model_dir / "wandb-id.txt"
    if not id_file.exists():
      id_file.write_text(uuid.uuid4().hex[:16])
    self._run = wandb.init(
      id=id_file.read_text().strip(),
      name=model_dir.name,
      resume="allow",
      dir=str(model_dir) if is_local(model_dir) else None,
    )
    # W&B's own step only grows; with this one a resumed run replaces its last records.
    self._run.define_metric("*", step_metric="step")

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    self._run.log({"step": step, **{f"{split}/{name}": value for name, value in values.items()}})

  def flush(self) -> None:
    pass  # It sends what it has by itself.

  def rewind(self, step: int) -> None:
    pass  # The records of a step replace those it has.

  def close(self) -> None:
    self._run.finish()


class MLflow:
  """Sends records as `train/loss`, ... to the experiment that MLFLOW_EXPERIMENT_NAME names.

  The server is that of MLFLOW_TRACKING_URI. MODEL_DIR/mlflow-id.txt holds the id of the run, so
  that a resumed run is the same run there. MLflow keeps every value that it was sent: a resumed run
  sends a record again only if its loss is another one, as with other settings or after a rollback.
  """

  def __init__(self, model_dir: epath.Path, experiment: str):
    self._mlflow = _imported("mlflow", "MLFLOW_EXPERIMENT_NAME", experiment)
    self._client = self._mlflow.MlflowClient()
    self._losses: dict[tuple[str, int], float] = {}  # {(split, step): the loss that was sent last}
    id_file = model_dir / "mlflow-id.txt"
    if id_file.exists():
      self._run = id_file.read_text().strip()
      self._client.update_run(self._run, status="RUNNING")
      for name in self._client.get_run(self._run).data.metrics:
        split, _, metric = name.partition("/")
        if metric == "loss":
          history = self._client.get_metric_history(self._run, name)
          self._losses |= {(split, sent.step): sent.value for sent in history}
    else:
      found = self._client.get_experiment_by_name(experiment)
      number = found.experiment_id if found else self._client.create_experiment(experiment)
      self._run = self._client.create_run(number, run_name=model_dir.name).info.run_id
      id_file.write_text(self._run)

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    loss = float(values.get("loss", math.nan))
    if self._losses.get((split, step)) == loss:
      return
    now = int(time.time() * 1000)
    metric = self._mlflow.entities.Metric
    metrics = [metric(f"{split}/{name}", float(x), now, step) for name, x in values.items()]
    self._client.log_batch(self._run, metrics=metrics)
    self._losses[split, step] = loss

  def flush(self) -> None:
    pass  # A record is sent when it is written.

  def rewind(self, step: int) -> None:
    pass  # What is different then is sent again.

  def close(self) -> None:
    self._client.set_terminated(self._run)


# {the variable of the environment that requests it: the tracker}
TRACKERS = {"WANDB_PROJECT": WeightsAndBiases, "MLFLOW_EXPERIMENT_NAME": MLflow}


def _imported(package: str, variable: str, value: str) -> ModuleType:
  try:
    return importlib.import_module(package)
  except ImportError as error:
    raise UserError(
      f"{variable} = {value!r} is set, but {package} is not installed; "
      f"pip install 't5x_style[{package}]', or unset it."
    ) from error
