"""A small run with a config.gin, as launch.train writes it, and the command in this process."""

import dataclasses
import json
from pathlib import Path

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

_FILES = {"CORPUS_FILES": "train", "VALIDATION_FILES": "validation"}
# Bytes are tokens: text of this Python's standard library, a few files of it.
_TEXT = """
include 'runs/pretrain.gin'
include 'models/{architecture}_mini.gin'
include 'data/text_files.gin'
include 'data/bytes.gin'
include 'objectives/{objective}.gin'
from __gin__ import dynamic_registration
from t5x_style.data.tokenizers import vocabularies
from t5x_style.models import config

vocabularies.byte_vocabulary.specials_from_extra_ids = (
  '[CLS]', '[SEP]', '[MASK]', '[PRE]', '[MID]', '[SUF]', '[R]', '[S]', '[X]')
VOCAB_SIZE = 384
TASK_FEATURE_LENGTHS = {{"inputs": 32}}
TRAIN_STEPS = 4
BATCH_SIZE = 8
EVAL_PERIOD = 2
EVAL_BATCHES = 3
SAVE_PERIOD = 2
WARMUP_STEPS = 1
SHUFFLE_BUFFER_SIZE = 64
SCAN_LAYERS = False
config.TransformerConfig:
  emb_dim = 32
  num_heads = 2
  num_kv_heads = None
  head_dim = 16
  mlp_dim = 64
"""


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
  """A folder of text files, of which validation.txt is held out."""
  folder = tmp_path_factory.mktemp("texts")
  files = sorted(Path(dataclasses.__file__).parent.glob("*.py"))[:9]
  for number, file in enumerate(files[1:]):
    (folder / f"train-{number}.txt").write_bytes(file.read_bytes()[:4000])
  (folder / "validation.txt").write_bytes(files[0].read_bytes()[:4000])
  return folder


@pytest.fixture(scope="session")
def train_on_text(texts, tmp_path_factory):
  """train_on_text("decoder_only", "causal_lm") trains a few steps and returns the MODEL_DIR."""

  def start(architecture, objective, *bindings):
    files = [f"{kind} = '{texts}/{name}*.txt'" for kind, name in _FILES.items()]
    text = _TEXT.format(architecture=architecture, objective=objective)
    return train(tmp_path_factory.mktemp(objective) / "run", text, *files, *bindings)

  return start


@pytest.fixture(scope="session")
def causal_run(train_on_text):
  return train_on_text("decoder_only", "causal_lm")


@pytest.fixture(scope="session")
def train_on(tmp_path_factory):
  """train_on(gin_text) trains and returns the MODEL_DIR."""
  return lambda text: train(tmp_path_factory.mktemp("given") / "run", text)


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
