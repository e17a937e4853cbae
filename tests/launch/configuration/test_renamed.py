"""Gin files of earlier versions, in which functions and classes have their former names."""

import importlib

import pytest

from launch.configuration import reader, renamed
from launch.configuration.gin_values import GinValues
from launch.conversion import model_gin
from launch.process.errors import ConfigurationError
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.training.loss import LossOptions
from t5x_style.training.train_config import TrainConfig

# Parts of the config.gin of a run, as an earlier version wrote it.
WRITTEN_BEFORE = """
# The configuration of this run. To repeat it somewhere else:
#   python -m launch.train --gin_file=THIS_FILE --gin.MODEL_DIR="'/another/directory'"

from __gin__ import dynamic_registration
from t5x_style.data import corpora
from t5x_style.data import loader
from t5x_style.data import span_corruption
from t5x_style.data import vocabularies
from t5x_style.models import config
from t5x_style.training import optimizers
from t5x_style.training import run
from t5x_style.training import schedules
from t5x_style.training import step

BATCH_SIZE = 8  # run_t5.gin:9
CORPUS = @corpora.PythonStdlib()  # gin_configs/data/python_stdlib.gin:7
MODEL = @config.TransformerConfig()  # gin_configs/models/base.gin:13
MODEL_DIR = 'model_dirs/t5'  # run_t5.gin:28
OBJECTIVE = @span_corruption.SpanCorruption()  # gin_configs/objectives/span_corruption.gin:7
OPTIMIZER = @optimizers.adafactor  # gin_configs/runs/t5.gin:13
RANDOM_SEED = 0  # gin_configs/runs/pretrain.gin:18
SCHEDULE = @schedules.rsqrt()  # gin_configs/runs/t5.gin:14
TASK_FEATURE_LENGTHS = {'inputs': 64}  # run_t5.gin:17
VOCABULARY = @vocabularies.sentencepiece()  # gin_configs/data/vocabulary.gin:8
VOCABULARY_FILE = 'python_stdlib.model'  # gin_configs/data/vocabulary.gin:5
Z_LOSS = 0.0001  # gin_configs/runs/t5.gin:11

loader.load.corpus = %CORPUS  # gin_configs/data/loading.gin:16
loader.load.vocabulary = %VOCABULARY  # gin_configs/data/loading.gin:17
loader.load.objective = %OBJECTIVE  # gin_configs/data/loading.gin:18
loader.load.feature_lengths = %TASK_FEATURE_LENGTHS  # gin_configs/data/loading.gin:19

schedules.rsqrt.warmup_steps = 5  # gin_configs/runs/t5.gin:15

step.LossOptions.z_loss = %Z_LOSS  # gin_configs/runs/pretrain.gin:40

run.Run.model = %MODEL  # gin_configs/runs/pretrain.gin:45
run.Run.dataset = @loader.load  # gin_configs/runs/pretrain.gin:46
run.Run.optimizer = %OPTIMIZER  # gin_configs/runs/pretrain.gin:47
run.Run.schedule = %SCHEDULE  # gin_configs/runs/pretrain.gin:48
run.Run.model_dir = %MODEL_DIR  # gin_configs/runs/pretrain.gin:49
run.Run.loss = @step.LossOptions()  # gin_configs/runs/pretrain.gin:50
run.Run.batch_size = %BATCH_SIZE  # gin_configs/runs/pretrain.gin:51
run.Run.train_steps = 20  # gin_configs/runs/pretrain.gin:52
run.Run.seed = %RANDOM_SEED  # gin_configs/runs/pretrain.gin:53

span_corruption.SpanCorruption.noise_density = 0.2  # default

vocabularies.sentencepiece.path = %VOCABULARY_FILE  # gin_configs/data/vocabulary.gin:11

config.TransformerConfig.vocab_size = 8320  # gin_configs/models/base.gin:15
config.TransformerConfig.emb_dim = 32  # gin_configs/models/t5_1_1/mini.gin:5
config.TransformerConfig.num_heads = 2  # gin_configs/models/t5_1_1/mini.gin:6
config.TransformerConfig.head_dim = 16  # gin_configs/models/t5_1_1/mini.gin:7
config.TransformerConfig.mlp_dim = 64  # gin_configs/models/t5_1_1/mini.gin:8
config.TransformerConfig.num_encoder_layers = 1  # gin_configs/models/t5_1_1/mini.gin:9
config.TransformerConfig.num_decoder_layers = 1  # gin_configs/models/t5_1_1/mini.gin:10
"""


@pytest.fixture
def config_gin(tmp_path):
  path = tmp_path / "config.gin"
  path.write_text(WRITTEN_BEFORE)
  return path


@pytest.mark.parametrize("name", renamed.FORMER_NAMES.values())
def test_names_of_today_exist(name):
  module, _, attribute = name.rpartition(".")
  assert hasattr(importlib.import_module(module), attribute)


def test_a_run_is_repeated(config_gin):
  settings = reader.read([str(config_gin)])
  run = settings.build(TrainConfig)
  assert (run.train_steps, run.batch_size, run.loss.z_loss) == (20, 8, 0.0001)
  assert settings.build(SpanCorruption).noise_density == 0.2
  text = settings.operative()
  assert "train_config.TrainConfig.train_steps = 20" in text
  assert "run.Run" not in text


def test_the_model_is_read_without_imports(config_gin):
  values = GinValues([str(config_gin)])
  assert model_gin.transformer_config(values).emb_dim == 32
  vocabulary = model_gin.vocabulary_of_run(values)
  assert vocabulary is not None and vocabulary.extra_ids == 128


@pytest.mark.parametrize("name", ["run.Run", "Run", "train_config.TrainConfig", "TrainConfig"])
def test_former_names_on_the_command_line(config_gin, name):
  given = ["MODEL_DIR = 'elsewhere'", f"{name}.seed = 7", "step.LossOptions.z_loss = 0.5"]
  run = reader.read([str(config_gin)], given).build(TrainConfig)
  assert (run.seed, run.loss.z_loss, run.model_dir) == (7, 0.5, "elsewhere")


def test_former_names_beside_shipped_files():
  given = ["run.Run.seed = 7", "OBJECTIVE = @sentence_pairs.NextSentence()"]
  files = ["quickstart_masked_lm.gin", "objectives/next_sentence.gin"]
  settings = reader.read(files, given)
  assert settings.build(TrainConfig).seed == 7
  assert settings.macro("OBJECTIVE").target.path == "NextSentence"


def test_names_of_a_users_file_are_its_own(tmp_path, monkeypatch):
  """The alias `loss` of this file is its own module, whatever LossOptions' module is called."""
  (tmp_path / "losses_of_mine").mkdir()
  (tmp_path / "losses_of_mine/loss.py").write_text("def scale(by: float = 1.0): return by\n")
  (tmp_path / "mine.gin").write_text(
    "from losses_of_mine import loss\nfrom t5x_style.training import step\n"
    "loss.scale.by = 2.0\nstep.LossOptions.z_loss = 0.25\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  settings = reader.read([str(tmp_path / "mine.gin")])
  assert settings.build(LossOptions).z_loss == 0.25
  from losses_of_mine import loss

  assert settings.build(loss.scale) == 2.0


def test_a_former_module_without_the_name(tmp_path):
  (tmp_path / "mine.gin").write_text("from t5x_style.training import run\nrun.Runs.seed = 1\n")
  with pytest.raises(ConfigurationError, match=r"t5x_style.training has no module 'run'"):
    reader.read([str(tmp_path / "mine.gin")])
