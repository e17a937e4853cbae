"""Runs of gin files in this process, as launch.train makes them, without its terminal."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from t5x_style.checkpoints import restoring, warm_start
from t5x_style.reporting import reporter, terminal
from t5x_style.training import evaluation, loop, setup, train_config
from t5x_style.training.dataset import Batch

from ..configuration import open_size, reader
from ..process import environment, whole_files


class StoppedError(Exception):
  """A signal stopped a run, which has saved: the same command resumes it.

  Attributes:
    signal_name: such as "SIGTERM".
  """

  def __init__(self, signal_name: str):
    super().__init__(signal_name)
    self.signal_name = signal_name


_ALL_BATCHES = 10**6


def prepare(gin_file: str, bindings: Sequence[str], model_dir: Path) -> setup.Prepared:
  """Builds and checks a run; nothing is trained.

  Raises:
    UserError: the settings are wrong.
  """
  with environment.quiet_imports():
    settings = reader.read([gin_file], [*bindings, f"MODEL_DIR = {str(model_dir)!r}"])
  open_size.refuse(settings)
  return setup.prepare(settings.build(train_config.TrainConfig))


def train(prepared: setup.Prepared) -> float:
  """Trains a run to its last step, from its newest checkpoint if there is one.

  Returns:
    the loss of its last evaluation, in nats per token.

  Raises:
    StoppedError: a signal came; the run has saved.
    FloatingPointError: the run diverged.
  """
  job = restoring.open_run(prepared)
  quiet = terminal.Terminal(enabled=False)
  result = loop.train(job, reporter.RunReporter(prepared, job.first_step, quiet))
  if not result.complete:
    raise StoppedError(result.stopped_by or "")
  return result.validation["loss"]


def losses(model_dir: Path) -> list[float]:
  """Returns the training loss of each step of a run with LOG_PERIOD = 1, in nats per token.

  It is NaN for steps that were skipped, because they were not finite.
  """
  lines = (model_dir / "metrics.jsonl").read_text().splitlines()
  records = [record for record in map(json.loads, lines) if record["split"] == "train"]
  return [record.get("loss", math.nan) for record in records]


def best_held_out_loss(
  prepared: setup.Prepared, changed: Callable[[Batch], Batch] = lambda batch: batch
) -> float:
  """Returns the loss of the best checkpoint over the whole held-out text, in nats per token.

  Args:
    changed: what is done with each batch before.
  """
  best, model = str(prepared.model_dir / "best"), prepared.config.model
  params = warm_start.initial_params(best, model, prepared.abstract.params)
  batches = prepared.dataset.evaluation(_ALL_BATCHES)
  values = evaluation.make_evaluate(prepared)(params, map(changed, batches))
  assert values is not None
  return values["loss"]


def remembered(path: Path, measure: Callable[[], float]) -> float:
  """Returns what `measure` returned once, kept in a file: a finished run is not opened again."""
  if path.exists():
    return json.loads(path.read_text())["value"]
  value = measure()
  path.parent.mkdir(parents=True, exist_ok=True)
  whole_files.write_json(path, {"value": value})
  return value
