"""Folders as runs write them."""

import json

import pytest

CONFIG = """\
# The configuration of this run.
from __gin__ import dynamic_registration
from t5x_style.training import train_config

BATCH_SIZE = 16  # gin_configs/runs/quickstart.gin:5
MODEL_DIR = '/somewhere'  # command line
OBJECTIVE = @span_corruption.SpanCorruption()

train_config.TrainConfig.batch_size = %BATCH_SIZE  # gin_configs/runs/pretrain.gin:50
"""


@pytest.fixture
def write_run(tmp_path):
  """Writes the folder of a run: records of metrics.jsonl, and other files by name."""

  def write(name="run", records=(), config=CONFIG, **files):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in records))
    (folder / "config.gin").write_text(config)
    for file, content in files.items():
      text = content if isinstance(content, str) else json.dumps(content)
      (folder / file.replace("__", ".").replace("_", "-")).write_text(text)
    return folder

  return write


@pytest.fixture
def train_record():
  """Returns a record of training as a run writes it."""

  def record(step, **values):
    every = {"loss": 8.0 / step, "accuracy": step / 1000, "learning_rate": 1e-3, "grad_norm": 1.5}
    speed = {"tokens": 512 * step, "tokens_per_second": 5000.0, "data_wait": 0.02}
    counts = {"skipped_steps": 0, "seconds": 0.5 * step}
    return {"step": step, "split": "train", **every, **speed, **counts, **values}

  return record
