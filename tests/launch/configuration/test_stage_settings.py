"""The settings of the stages of a run, from gin."""

import pytest

from launch import train
from launch.configuration import reader, stage_settings
from launch.process.errors import ConfigurationError
from t5x_style.training import train_config

RUN = """
from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.models import experts
from t5x_style.training import synthetic
from t5x_style.training import train_config
include 'runs/pretrain.gin'
include 'models/base.gin'
BATCH_SIZE = 4
TRAIN_STEPS = 100
ROTARY_BASE = 10000.0
LENGTHS = {"targets": 8}
OTHER = 3
config.TransformerConfig:
  emb_dim = 8
  num_heads = 2
  head_dim = 4
  mlp_dim = 8
  num_decoder_layers = 2
  positions = "rotary"
  rotary_base = %ROTARY_BASE
train_config.TrainConfig.dataset = @synthetic.load
synthetic.load.feature_lengths = %LENGTHS
synthetic.load.vocab_size = %VOCAB_SIZE
STAGES = {
    "batch": {"after_steps": 10, "BATCH_SIZE": 8},
    "long": {"after_steps": 20, "LENGTHS": {"targets": 16}, "ROTARY_BASE": 160000.0},
    "decay": {"after_steps": %LATE, "BATCH_SIZE": 2},
}
LATE = 50
"""


@pytest.fixture
def read(tmp_path):
  """Reads the configuration above, with bindings after it."""
  (tmp_path / "run.gin").write_text(f"{RUN}MODEL_DIR = {str(tmp_path / 'run')!r}\n")

  def run(*bindings):
    return reader.read([str(tmp_path / "run.gin")], bindings)

  return run


def prepare(settings):
  return train._prepare(settings, settings.build(train_config.TrainConfig))


def test_a_stage_keeps_what_the_ones_before_it_changed(read):
  run = prepare(read())
  shapes = [prepared.dataset.feature_shapes["decoder_target_tokens"].shape for prepared in run]
  assert shapes == [(4, 8), (8, 8), (8, 16), (2, 16)]
  assert [prepared.config.model.rotary_base for prepared in run] == [1e4, 1e4, 1.6e5, 1.6e5]
  assert [(prepared.stage.first, prepared.last_step) for prepared in run] == [
    *((0, 10), (10, 20), (20, 50), (50, 100))
  ]
  assert [prepared.stage.name for prepared in run] == ["start", "batch", "long", "decay"]


def test_a_stage_is_chosen_by_its_name(read):
  first = stage_settings.chosen(read(), None)
  assert (first.number, first.settings.macro("BATCH_SIZE")) == (1, 4)
  assert first.note == (
    "Stage 1 of 4, 'start'; for the others: --stage='batch', --stage='long', --stage='decay'."
  )
  long = stage_settings.chosen(read(), "long")
  assert (long.number, long.settings.macro("BATCH_SIZE")) == (3, 8)
  assert long.settings.build(train_config.TrainConfig).model.rotary_base == 1.6e5
  with pytest.raises(ConfigurationError, match="'lang' is no stage .* 'start', 'batch', 'long'"):
    stage_settings.chosen(read(), "lang")
  alone = read("STAGES = {}")
  assert stage_settings.chosen(alone, None).note == ""
  with pytest.raises(ConfigurationError, match="it has no STAGES"):
    stage_settings.chosen(alone, "long")


def test_the_written_configuration_repeats_all_stages(read, tmp_path):
  settings = read("TrainConfig.keep_checkpoints = 7")
  run = prepare(settings)
  (tmp_path / "config.gin").write_text(settings.operative())
  written = (tmp_path / "config.gin").read_text()
  assert "BATCH_SIZE = 4" in written and "# default" in written
  again = prepare(reader.read([str(tmp_path / "config.gin")]))
  assert [prepared.identity() for prepared in again] == [prepared.identity() for prepared in run]


def test_gin_has_the_settings_of_the_files_again_after_the_stages(read):
  settings = read()
  prepare(settings)
  assert settings.build(train_config.TrainConfig).batch_size == 4
  before = read("STAGES = {}")
  [alone] = prepare(before)
  assert alone.stage.name == ""
  # The defaults that were used are written in the same way, with or without stages.
  lines = [text.splitlines() for text in (settings.operative(), before.operative())]
  used = [{line for line in text if line.endswith("# default")} for text in lines]
  assert used[0] == used[1] != set()


def test_stages_after_the_end_of_the_run_are_left_out(read):
  with pytest.warns(UserWarning, match="The run ends before its stage 'decay'"):
    run = prepare(read("TRAIN_STEPS = 30"))
  assert [prepared.last_step for prepared in run] == [10, 20, 30]


@pytest.mark.parametrize(
  ("written", "message"),
  [
    ("{'a': {'BATCH_SIZE': 8}}", "should have 'after_steps'"),
    ("{'a': {'after_steps': 0, 'BATCH_SIZE': 8}}", "more than the 0"),
    ("{'a': {'after_steps': 5}}", "one macro or more"),
    ("{'start': {'after_steps': 5, 'BATCH_SIZE': 8}}", "is that of the first stage"),
    (
      "{'a': {'after_steps': 9, 'BATCH_SIZE': 8}, 'b': {'after_steps': 9, 'BATCH_SIZE': 4}}",
      "more than the 9",
    ),
    ("{'a': {'after_steps': 5, 'BATCHSIZE': 8}}", "BATCHSIZE.* Did you mean 'BATCH_SIZE'"),
    ("{'a': {'after_steps': 5, 'OTHER': 8}}", "OTHER, which nothing uses"),
    (
      "{'a': {'after_steps': 5, 'PEAK_LEARNING_RATE': 0.1}}",
      "schedules.cosine.peak.*cannot change",
    ),
    ("{'a': {'after_steps': 5, 'TRAIN_STEPS': 9}}", "TrainConfig.train_steps.*cannot change"),
    ("{'a': {'after_steps': 5, 'VOCAB_SIZE': 9}}", "vocab_size.*cannot change"),
    ("{'a': {'after_steps': 5, 'RANDOM_SEED': 9}}", "TrainConfig.seed.*cannot change"),
    ("{'a': {'after_steps': 5, 'BATCH_SIZE': 'x'}}", "BATCH_SIZE = 'x' should be a whole number"),
    ("{'a': 3}", "STAGES.*'a'.*should be a dictionary|should"),
  ],
)
def test_mistakes(read, written, message):
  with pytest.raises(ConfigurationError, match=message):
    prepare(read(f"STAGES = {written}"))


def test_the_stage_of_a_step(read):
  for step, expected in ((0, (4, 8)), (10, (4, 8)), (11, (8, 8)), (50, (8, 16)), (51, (2, 16))):
    settings = stage_settings.of_step(read(), step)
    config = settings.build(train_config.TrainConfig)
    dataset = config.dataset("decoder_only", config.batch_size, 0, 0, 1)
    assert dataset.feature_shapes["decoder_target_tokens"].shape == expected
  # What the command line sets is kept.
  given = stage_settings.of_step(read("BATCH_SIZE = 6"), 51)
  assert given.build(train_config.TrainConfig).batch_size == 6


def test_no_stages(read):
  assert stage_settings.stages(read("STAGES = {}")) == []


def test_dropout_of_experts_follows_that_of_the_model(read):
  experts = (
    "config.TransformerConfig.experts = @experts.Experts()",
    "experts.Experts.num_experts = 4",
    "experts.Experts.dropout_rate = %EXPERT_DROPOUT_RATE",
    "EXPERT_DROPOUT_RATE = %DROPOUT_RATE",
    'STAGES = {"drop": {"after_steps": 10, "DROPOUT_RATE": 0.1}}',
  )
  first, second = prepare(read(*experts))
  assert first.config.model.experts.dropout_rate == 0
  assert second.config.model.experts.dropout_rate == second.config.model.dropout_rate == 0.1
