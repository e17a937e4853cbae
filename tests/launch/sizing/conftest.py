"""A configuration whose size can be chosen."""

import pytest

from launch.configuration import reader

GIN = """
from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.training import synthetic
from t5x_style.training import train_config
include 'runs/quickstart.gin'
include 'models/decoder_only_tiny.gin'
MODEL_DIR = {model_dir!r}
VOCAB_SIZE = 96
train_config.TrainConfig.dataset = @synthetic.load
synthetic.load.feature_lengths = {{'targets': 64}}
synthetic.load.vocab_size = 96
"""


@pytest.fixture
def read(tmp_path):
  """(bindings) -> the configuration of a run on random tokens, with MODEL_DIR tmp_path/run."""
  file = tmp_path / "run.gin"
  file.write_text(GIN.format(model_dir=str(tmp_path / "run")))

  def read(*bindings, files=(file,)):
    return reader.read([str(file) for file in files], bindings)

  return read
