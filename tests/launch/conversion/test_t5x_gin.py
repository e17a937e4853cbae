"""Gin files of T5X in the names of this package."""

import textwrap

import pytest

from launch.configuration import reader
from launch.conversion import t5x_gin
from launch.process.errors import ConfigurationError
from t5x_style.training import train_config

PRETRAIN = """
from __gin__ import dynamic_registration
import my_project.tasks
import __main__ as train_script
include 't5x/examples/t5/t5_1_1/small.gin'
include 't5x/configs/runs/pretrain.gin'
MIXTURE_OR_TASK_NAME = "my_mixture"
TASK_FEATURE_LENGTHS = {"inputs": 512, "targets": 114}
TRAIN_STEPS = 2000
DROPOUT_RATE = 0.0
USE_CACHED_TASKS = False
RATE = 0.5
train_script.train.eval_period = 200
utils.SaveCheckpointConfig:
  period = 500
  keep = 2
utils.create_learning_rate_scheduler:
  factors = 'constant * rsqrt_decay'
  base_learning_rate = %RATE
partitioning.PjitPartitioner.num_partitions = 4
network.T5Config:
  num_decoder_layers = 2
  float32_attention_logits = True
train_eval/utils.DatasetConfig.batch_size = 8
"""
FINETUNE = """
from __gin__ import dynamic_registration
include 't5x/examples/t5/t5_1_0/base.gin'
include 't5x/configs/runs/finetune.gin'
MIXTURE_OR_TASK_NAME = "my_task"
MIXTURE_OR_TASK_MODULE = "my_project.tasks"
TASK_FEATURE_LENGTHS = {"inputs": 64, "targets": 16}
TRAIN_STEPS = 1_020_000
INITIAL_CHECKPOINT_PATH = "gs://bucket/t5_base/checkpoint_1000000"
partitioning.PjitPartitioner.model_parallel_submesh = (2, 1, 1, 2)
"""
ADAMW = """
include 't5x/examples/t5/t5_1_1/base.gin'
include 't5x/configs/runs/pretrain.gin'
OPTIMIZER = @optimizers.chain()
optimizers.chain:
  transformations = [@optax.clip_by_global_norm(), @optax.adamw()]
optax.clip_by_global_norm.max_norm = 0.5
optax.adamw:
  learning_rate = 0.0002
  weight_decay = 0.01
utils.create_learning_rate_scheduler.factors = 'constant * linear_warmup * cosine_decay'
"""


@pytest.fixture
def translated(tmp_path, monkeypatch):
  """(text of a T5X file) -> (the translation, its configuration, and that as a TrainConfig)."""
  monkeypatch.chdir(tmp_path)

  def translate(text, name="mine.gin"):
    (tmp_path / name).write_text(textwrap.dedent(text))
    found = t5x_gin.translate(tmp_path / name)
    (tmp_path / "own.gin").write_text(found.text)
    read = reader.read(["own.gin"])
    return found, read, read.build(train_config.TrainConfig)

  return translate


def reasons(found):
  return {one.name: one.reason for one in found.lost}


def test_a_pretraining_run_becomes_one_that_can_be_built(translated):
  found, read, config = translated(PRETRAIN)
  model = config.model
  assert (model.emb_dim, model.num_heads, model.head_dim, model.mlp_dim) == (512, 6, 64, 1024)
  assert (model.num_encoder_layers, model.num_decoder_layers) == (8, 2)
  assert model.tie_embeddings is False and model.dropout_rate == 0.0
  assert (config.train_steps, config.batch_size, config.eval_period) == (2000, 128, 200)
  assert (config.save_period, config.keep_checkpoints) == (500, 2)
  assert config.loss.z_loss == 1e-4
  assert config.mesh_shape == {"data": -1, "tensor": 4}
  assert config.schedule(40_000) == pytest.approx(0.5 / 200)  # 0.5 / sqrt(step)
  assert config.schedule(0) == pytest.approx(0.5 / 100)  # 10,000 steps of warm-up
  assert read.macro("MIXTURE_OR_TASK_NAME") == "my_mixture"
  assert read.macro("MIXTURE_OR_TASK_MODULE") == "my_project.tasks"
  assert read.macro("TASK_FEATURE_LENGTHS") == {"inputs": 512, "targets": 114}
  assert "TRAIN_STEPS = 2000  # mine.gin:9" in found.text


def test_what_has_no_counterpart_is_named_with_its_line_and_a_reason(translated):
  found, _, _ = translated(PRETRAIN)
  why = reasons(found)
  assert set(why) == {
    "USE_CACHED_TASKS",
    "T5Config.float32_attention_logits",
    "train_eval/DatasetConfig.batch_size",
  }
  assert "launch.cache" in why["USE_CACHED_TASKS"]
  assert why["T5Config.float32_attention_logits"] == "it is not known here"
  assert {one.place for one in found.lost} == {"mine.gin:11", "mine.gin:23", "mine.gin:24"}


def test_fine_tuning_counts_steps_from_the_checkpoint(translated):
  found, read, config = translated(FINETUNE)
  assert config.train_steps == 20_000
  assert config.initial_checkpoint_path.endswith("checkpoint_1000000")
  assert config.model.tie_embeddings is True and config.model.num_decoder_layers == 12
  assert config.mesh_shape == {"data": -1, "tensor": 4}
  assert config.schedule(0) == config.schedule(19_999) == pytest.approx(0.001)
  assert (config.save_period, config.batch_size, config.best_metric) == (5000, 128, "loss")
  assert str(read.written("OPTIMIZER").value.target).endswith("optimizers.adafactor")
  assert found.lost == []


def test_another_optimizer_and_a_schedule_that_is_not_known(translated):
  found, read, config = translated(ADAMW + "TRAIN_STEPS = 9\n")
  assert str(read.written("OPTIMIZER").value.target).endswith("optimizers.adamw")
  assert read.values()["t5x_style.training.optimizers.adamw.weight_decay"] == "0.01"
  assert config.clip_gradient_norm == 0.5
  assert read.macro("PEAK_LEARNING_RATE") == 0.0002
  assert "cosine_decay, linear_warmup" in reasons(found)["create_learning_rate_scheduler.factors"]


def test_files_of_the_user_are_read_where_they_are(tmp_path, monkeypatch, translated):
  (tmp_path / "clone/my_project").mkdir(parents=True)
  (tmp_path / "clone/my_project/sizes.gin").write_text("BATCH_SIZE = 48\n")
  (tmp_path / "mine.gin").write_text("include 'my_project/sizes.gin'\n")
  with pytest.raises(ConfigurationError, match=r"'my_project/sizes.gin' is not there.*\n.*gin:1"):
    t5x_gin.translate(tmp_path / "mine.gin")
  found = t5x_gin.translate(tmp_path / "mine.gin", [tmp_path / "clone"])
  assert "BATCH_SIZE = 48  # sizes.gin:1" in found.text


@pytest.mark.parametrize(
  "text, message",
  [("include 'mine.gin'\n", "includes itself"), ("A = = 2\n", "gin syntax"), (None, "mine.gin")],
)
def test_files_that_cannot_be_read(tmp_path, monkeypatch, text, message):
  monkeypatch.chdir(tmp_path)
  if text is not None:
    (tmp_path / "mine.gin").write_text(text)
  with pytest.raises(ConfigurationError, match=message):
    t5x_gin.translate(tmp_path / "mine.gin")
