"""MINUTES and FLOPS of a configuration: what they set, what config.gin says, what is refused."""

import json

import pytest

from launch.configuration import reader
from launch.process.errors import ConfigurationError
from launch.sizing import choice, speed
from t5x_style.errors import UserError
from t5x_style.training import setup, train_config

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


def no_notes(text):
  raise AssertionError(text)


def build(settings):
  return settings.build(train_config.TrainConfig)


def test_a_run_without_a_budget_stays_as_it_is(read):
  settings = read()
  assert choice.resolved(settings, no_notes) == (settings, "", "")


def test_flops_choose_a_run_that_spends_them(read):
  before = build(read())
  found = choice.resolved(read("FLOPS = 2e12"), no_notes)
  config = build(found.settings)
  assert config.model.emb_dim != before.model.emb_dim or config.train_steps != before.train_steps
  spent = config.train_steps * setup.prepare(config).step_flops
  assert spent == pytest.approx(2e12, rel=0.01)
  assert config.model.base_emb_dim == 128
  assert config.eval_period * 10 >= config.train_steps > config.eval_period * 9
  assert config.save_period == 100  # of the gin file: less than a quarter of the run
  assert f"width {config.model.emb_dim}" in found.text
  assert f"{config.train_steps:,} steps of {config.batch_size} rows" in found.text


def test_the_written_configuration_repeats_the_choice(read, tmp_path, monkeypatch):
  chosen = choice.resolved(read("FLOPS = 2e12"), no_notes).settings
  config = build(chosen)
  written = tmp_path / "config.gin"
  written.write_text(chosen.operative())
  monkeypatch.setattr(choice, "_choose", None)
  again = choice.resolved(read(files=[written]), no_notes)
  assert again.text == ""
  assert build(again.settings).model == config.model
  assert build(again.settings).train_steps == config.train_steps
  assert "FLOPS = 2e+12" in written.read_text()  # where the values are from


def test_a_run_that_resumes_chooses_nothing(read, tmp_path, monkeypatch):
  first = choice.resolved(read("FLOPS = 2e12"), no_notes)
  config = build(first.settings)
  (tmp_path / "run/checkpoints/100").mkdir(parents=True)
  (tmp_path / "run" / choice.FILE).write_text(first.json)
  monkeypatch.setattr(choice, "_choose", None)
  again = choice.resolved(read("FLOPS = 2e12"), no_notes)
  assert (again.text, again.json) == (first.text, first.json)
  assert build(again.settings).model == config.model
  with pytest.raises(ConfigurationError, match=r"was chosen by FLOPS = 2e\+12, not by FLOPS = 3e"):
    choice.resolved(read("FLOPS = 3e12"), no_notes)


def test_a_run_that_resumes_has_the_rate_and_the_periods_of_its_command_line(read, tmp_path):
  first = choice.resolved(read("FLOPS = 2e12"), no_notes)
  (tmp_path / "run/checkpoints/100").mkdir(parents=True)
  (tmp_path / "run" / choice.FILE).write_text(first.json)
  given = {"PEAK_LEARNING_RATE": 0.0123, "EVAL_PERIOD": 7, "SAVE_PERIOD": 11, "LOG_PERIOD": 3}
  bindings = [f"{name} = {value}" for name, value in given.items()]
  again = choice.resolved(read("FLOPS = 2e12", *bindings), no_notes).settings
  assert {name: again.macro(name) for name in given} == given
  assert again.macro("TRAIN_STEPS") == first.settings.macro("TRAIN_STEPS")


def test_a_run_of_another_kind_is_not_continued(read, tmp_path):
  (tmp_path / "run/checkpoints/100").mkdir(parents=True)
  with pytest.raises(ConfigurationError, match="was chosen by another way, not by MINUTES = 5"):
    choice.resolved(read("MINUTES = 5"), no_notes)


def test_minutes_are_measured(read, monkeypatch):
  """At 1e10 FLOP/s, after 10 s of compiling, with 10 evaluations of 8 batches."""

  def measured(config):
    return speed.Speed(setup.prepare(config).step_flops / 1e10, 10.0)

  monkeypatch.setattr(speed, "measure", measured)
  notes = []
  found = choice.resolved(read("MINUTES = 5"), notes.append)
  config = build(found.settings)
  step = setup.prepare(config).step_flops / 1e10
  seconds = 10 + config.train_steps * step + 10 * 8 * step / 3
  assert seconds == pytest.approx(300, rel=0.02)
  assert "1e+10 FLOP/s" in found.text
  assert notes[0] == "MINUTES = 5: steps of width 128 are timed."
  assert json.loads(found.json)["budget"] == "MINUTES = 5"


def test_a_rate_of_the_command_line_is_that_of_the_base_size(read):
  found = choice.resolved(read("FLOPS = 2e12", "PEAK_LEARNING_RATE = 0.0123"), no_notes)
  assert found.settings.macro("PEAK_LEARNING_RATE") == 0.0123
  assert "peak learning rate 0.012" in found.text


@pytest.mark.parametrize(
  "bindings, message",
  [
    (["TRAIN_STEPS = 5"], "FLOPS = 2e\\+12 chooses TRAIN_STEPS; leave one of the two out"),
    (["BASE_EMB_DIM = 64"], "chooses BASE_EMB_DIM"),
    (["TransformerConfig.emb_dim = 256"], "chooses emb_dim"),
    (["STAGES = {'b': {'after_steps': 9, 'BATCH_SIZE': 8}}"], "without STAGES, and this one has b"),
    (["INITIAL_CHECKPOINT_PATH = 'x'"], "INITIAL_CHECKPOINT_PATH has one"),
  ],
)
def test_what_decides_the_size_too_is_refused(read, bindings, message):
  with pytest.raises(ConfigurationError, match=message):
    choice.resolved(read("FLOPS = 2e12", *bindings), no_notes)


@pytest.mark.parametrize("value", ["0", "-1", "'x'", "True", "1e999"])
def test_budgets_are_positive_numbers(read, value):
  with pytest.raises(ConfigurationError, match="MINUTES"):
    read(f"MINUTES = {value}")


def test_minutes_and_flops_are_not_set_together(read):
  with pytest.raises(UserError, match="are both set"):
    choice.resolved(read("MINUTES = 5", "FLOPS = 1e12"), no_notes)


def test_a_command_that_needs_a_size_refuses_a_budget(read):
  choice.refuse(read())
  with pytest.raises(ConfigurationError, match="MINUTES = 5 leaves the size open"):
    choice.refuse(read("MINUTES = 5"))


def test_other_optimizers_and_several_processes_are_refused(read, tmp_path):
  lion = tmp_path / "lion.gin"
  lion.write_text("include 'runs/optimizers/lion.gin'")
  with pytest.raises(ConfigurationError, match="learning rates of AdamW only"):
    choice.resolved(read("FLOPS = 2e12", files=[tmp_path / "run.gin", lion]), no_notes)
  with pytest.raises(ConfigurationError, match="this run has 2; set FLOPS"):
    choice.resolved(read("MINUTES = 5"), no_notes, process_count=2)
