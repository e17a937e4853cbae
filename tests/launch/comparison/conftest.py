"""Tiny runs on files of Python's standard library, with a config.gin and the shipped vocabulary."""

import dataclasses
import functools
from pathlib import Path

import pytest
from etils import epath

from launch.configuration import reader
from t5x_style.training import setup, train_config
from tests import tiny

_RUN = """
include 'runs/pretrain.gin'
include 'models/{architecture}_mini.gin'
include 'data/text_files.gin'
include 'objectives/{objective}.gin'
from __gin__ import dynamic_registration
from t5x_style.models import config
CORPUS_FILES = '{texts}/train*.txt'
VALIDATION_FILES = '{texts}/held_out*.txt'
TASK_FEATURE_LENGTHS = {{"{side}": 64}}
TRAIN_STEPS = 2
BATCH_SIZE = 4
EVAL_PERIOD = 2
EVAL_BATCHES = 2
SAVE_PERIOD = 2
LOG_PERIOD = 1
WARMUP_STEPS = 1
SHUFFLE_BUFFER_SIZE = 16
SCAN_LAYERS = False
config.TransformerConfig:
  emb_dim = 32
  num_heads = 2
  num_kv_heads = None
  head_dim = 16
  mlp_dim = 64
"""


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
  """finished_run("decoder_only", "causal_lm") returns a MODEL_DIR, which no test may change."""
  texts = tmp_path_factory.mktemp("texts")
  files = sorted(Path(dataclasses.__file__).parent.glob("*.py"))[:8]
  for number, file in enumerate(files):
    name = f"train-{number}.txt" if number < 4 else f"held_out-{number}.txt"
    (texts / name).write_bytes(file.read_bytes()[:20_000])

  @functools.cache
  def train(architecture, objective):
    folder = tmp_path_factory.mktemp(objective)
    side = "targets" if architecture == "decoder_only" else "inputs"
    names = {"architecture": architecture, "objective": objective, "texts": texts, "side": side}
    (folder / "given.gin").write_text(_RUN.format(**names))
    settings = reader.read([str(folder / "given.gin")], [f"MODEL_DIR = '{folder}'"])
    config = settings.build(train_config.TrainConfig)
    setup.prepare(config).dataset.store_vocabulary(epath.Path(folder))  # as launch.train does
    tiny.train(config)
    (folder / "config.gin").write_text(settings.operative())
    return folder

  return train
