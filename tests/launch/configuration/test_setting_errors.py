"""The messages about wrong settings, as full texts; the run is one on random batches."""

import pytest

from launch.configuration import reader
from launch.process.errors import ConfigurationError

RUN = """from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.training import loss
from t5x_style.training import optimizers
from t5x_style.training import schedules
from t5x_style.training import synthetic
from t5x_style.training import train_config
include 'runs/pretrain.gin'
include 'models/decoder_only_mini.gin'
train_config.TrainConfig.dataset = @synthetic.load
synthetic.load.feature_lengths = {'targets': 16}
synthetic.load.vocab_size = %VOCAB_SIZE
"""


@pytest.fixture
def error(tmp_path, monkeypatch):
  """Returns the error of a gin line, without file and line number; "" if it is right."""
  monkeypatch.chdir(tmp_path)

  def read(line):
    (tmp_path / "x.gin").write_text(f"{RUN}MODEL_DIR = 'x'\n{line}\n")
    try:
      reader.read(["x.gin"])
    except ConfigurationError as error:
      message, _, place = str(error).rpartition("\n")
      assert place == f"  x.gin:14: {line}"
      return message
    return ""

  return read


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("EVAL_BATCHES = 'x'", "'x' should be a whole number (for train_config.TrainConfig."),
    ("EVAL_BATCHES = 0", "EVAL_BATCHES = 0 should be greater than 0 (for train_config."),
    ("TRAIN_STEPS = True", "TRAIN_STEPS = True should be a whole number (for schedules."),
    ("TRAIN_STEPS = 1e6", "TRAIN_STEPS = 1000000.0 should be a whole number (for schedules."),
    ("PEAK_LEARNING_RATE = None", "should be a number (for schedules.cosine.peak)."),
    ("Z_LOSS = 1e999", "Z_LOSS = inf should be a finite number"),
    ("Z_LOSS = 99999999999", "should be written with a point: 99999999999.0"),
    ("CLIP_GRADIENT_NORM = -1.0", "should be greater than 0 or None (for train_config."),
    ("DTYPE = 'float64'", "should be 'float32', 'bfloat16' or 'float16' (for config."),
    ("MODEL_DIR = ''", "MODEL_DIR = '' should not be empty"),
    ("MODEL_DIR = 'a\\0b'", "A text holds the character NUL"),
    ("PROFILE_STEPS = (1,)", "PROFILE_STEPS = (1,) should have more items or None"),
    ("MESH_SHAPE = {'data': 'x'}", "MESH_SHAPE = {'data': 'x'}: 'x' should be a whole number"),
    ("MESH_SHAPE = {1: 1}", "MESH_SHAPE = {1: 1}: the key 1 should be text in quotes"),
    ("SCHEDULE = 0.001", "should be a function that gives an Array (written @NAME)"),
    ("SCHEDULE = @schedules.cosine", "write @schedules.cosine(), with parentheses"),
    ("OPTIMIZER = @optimizers.adamw()", "write @optimizers.adamw, without parentheses"),
    ("OPTIMIZER = @schedules.cosine", "that gives a GradientTransformation (not a function that"),
    ("MODEL = @loss.LossOptions()", "should be a TransformerConfig (not a LossOptions)"),
    ("MODEL = 3", "MODEL = 3 should be a TransformerConfig (written @NAME())"),
    ("optimizers.adamw.b1 = 2", "optimizers.adamw.b1 = 2 should be less than 1."),
    ("config.TransformerConfig.num_decoder_layers = 2147483647", "less than or equal to 10000."),
    ("config.TransformerConfig.num_kv_heads = 0", "should be greater than 0 or None."),
    ("config.TransformerConfig.attention_windows = (None, 'x')", "'x' should be a whole"),
    ("config.TransformerConfig.mlp_activations = 'relu'", "should be a tuple."),
    ("config.TransformerConfig.norm = @loss.LossOptions()", "should be a"),
    ("TRAIN_STEPS = %TRAIN_STEPS", "own value: %TRAIN_STEPS -> %TRAIN_STEPS."),
    ("train_config.TrainConfig.loss = @train_config.TrainConfig()", "needs its own value: @train"),
    ("train_config.TrainConfig.seed = %gin.REQUIRED", "train_config.TrainConfig.seed is not set"),
    ("train_config.TrainConfig.mesh_shape = {%BATCH_SIZE: 1}", "the key 128 should be text"),
  ],
)  # fmt: skip
def test_wrong_settings(error, line, message):
  assert message in error(line)


@pytest.mark.parametrize(
  "line",
  [
    *("TRAIN_STEPS = 5", "TRAIN_STEPS = %BATCH_SIZE", "PEAK_LEARNING_RATE = 1", "RANDOM_SEED = 0"),
    *("PROFILE_STEPS = [10, 12]", "MESH_SHAPE = {'data': -1}", "CLIP_GRADIENT_NORM = None"),
    "LOGICAL_AXIS_RULES = [['vocab', ['data', 'fsdp']], ('mlp', None)]",
    *("LOSS_NORMALIZING_FACTOR = 3", "LOSS_NORMALIZING_FACTOR = 'AVERAGE_PER_SEQUENCE'"),
  ],
)
def test_right_settings(error, line):
  assert error(line) == ""
