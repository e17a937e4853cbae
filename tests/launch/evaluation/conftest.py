"""A small run with a config.gin, as launch.train writes it, and the command in this process."""

import json

import pytest

from launch import eval as evaluating
from launch.configuration import reader
from t5x_style.training import train_config
from tests import tiny

_RANDOM_TOKENS = """
from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.training import optimizers
from t5x_style.training import schedules
from t5x_style.training import synthetic
from t5x_style.training import train_config

MASKED_SHARE = 0.15
config.TransformerConfig:
  vocab_size = 96
  emb_dim = 32
  num_heads = 2
  head_dim = 16
  mlp_dim = 64
  num_encoder_layers = 2
  positions = 'rotary'
synthetic.load:
  feature_lengths = {'inputs': 16}
  vocab_size = 96
  masked_share = %MASKED_SHARE
schedules.constant.peak = 0.003
train_config.TrainConfig:
  model = @config.TransformerConfig()
  dataset = @synthetic.load
  optimizer = @optimizers.adamw
  schedule = @schedules.constant()
  model_dir = %MODEL_DIR
  train_steps = 6
  batch_size = 8
  eval_period = 2
  eval_batches = 2
  save_period = 2
"""


def train(folder, gin_text, *bindings):
  """Trains in `folder` and writes config.gin there."""
  folder.mkdir(exist_ok=True)
  file = folder / "given.gin"
  file.write_text(gin_text)
  settings = reader.read([str(file)], [f"MODEL_DIR = '{folder}'", *bindings])
  tiny.train(settings.build(train_config.TrainConfig))
  (folder / "config.gin").write_text(settings.operative())
  file.unlink()
  return folder


@pytest.fixture(scope="session")
def random_run(tmp_path_factory):
  """The MODEL_DIR of an encoder that was trained on random tokens, evaluated at each save."""
  return train(tmp_path_factory.mktemp("random") / "run", _RANDOM_TOKENS)


@pytest.fixture
def run(capsys):
  """run("loss", folder) returns the exit code and what is printed, parsed if it is JSON."""

  def start(*arguments):
    code = evaluating.main(["launch.eval", *map(str, arguments)])
    printed = capsys.readouterr().out
    return code, json.loads(printed) if "--json" in arguments else printed

  return start
