"""What decides the size beside MINUTES and FLOPS is refused, wherever it is set."""

import pytest

from launch.process.errors import ConfigurationError
from launch.sizing import choice, speed


def no_notes(text):
  raise AssertionError(text)


@pytest.mark.parametrize(
  "bindings, message",
  [
    (["TRAIN_STEPS = 5"], "FLOPS = 2e\\+12 chooses TRAIN_STEPS; leave one of the two out"),
    (["BASE_EMB_DIM = 64"], "chooses BASE_EMB_DIM"),
    (["TransformerConfig.emb_dim = 256"], "chooses emb_dim"),
    (["STAGES = {'b': {'after_steps': 9, 'BATCH_SIZE': 8}}"], "without STAGES, and this one has b"),
    (["INITIAL_CHECKPOINT_PATH = 'x'"], "INITIAL_CHECKPOINT_PATH has one"),
    (
      ["TrainConfig.train_steps = 77"],
      "chooses TrainConfig.train_steps, .* sets it to 77 .*\\n.*77",
    ),
    (["TrainConfig.batch_size = 8"], "chooses TrainConfig.batch_size, .* sets it to 8 "),
    (["TransformerConfig.base_emb_dim = 64"], "TransformerConfig.base_emb_dim, .* sets it to 64 "),
    (["SCHEDULE_STEPS = 100000"], "leave SCHEDULE_STEPS out"),
    (["cosine.peak = 0.5"], "the highest learning rate .*, and SCHEDULE has 0.5"),
  ],
)
def test_what_decides_the_size_too_is_refused(read, bindings, message):
  with pytest.raises(ConfigurationError, match=message):
    choice.resolved(read("FLOPS = 2e12", *bindings), no_notes)


def refused_before_timing(read, tmp_path, monkeypatch, text):
  """Returns the error of a run of MINUTES with a second gin file."""
  monkeypatch.setattr(speed, "measure", None)
  file = tmp_path / "more.gin"
  file.write_text(text)
  settings = read("MINUTES = 5", files=[tmp_path / "run.gin", file])
  with pytest.raises(ConfigurationError) as error:
    choice.resolved(settings, no_notes)
  return str(error.value)


def test_bindings_in_files_are_refused_before_steps_are_timed(read, tmp_path, monkeypatch):
  imports = "from __gin__ import dynamic_registration\n"
  text = f"{imports}from t5x_style.training import train_config\n"
  text += "train_config.TrainConfig.batch_size = 8"
  error = refused_before_timing(read, tmp_path, monkeypatch, text)
  assert "sets it to 8" in error and "more.gin:3: " in error


def test_a_schedule_without_the_chosen_rate_is_refused(read, tmp_path, monkeypatch):
  text = "include 'runs/schedules/rsqrt.gin'"
  error = refused_before_timing(read, tmp_path, monkeypatch, text)
  assert "Include a schedule that reaches PEAK_LEARNING_RATE" in error


def test_experts_are_refused_before_steps_are_timed(read, tmp_path, monkeypatch):
  text = """
from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.models import experts
config.TransformerConfig.experts = @experts.Experts()
experts.Experts.num_experts = 4
"""
  assert "this one has experts" in refused_before_timing(read, tmp_path, monkeypatch, text)


def test_other_optimizers_and_several_processes_are_refused(read, tmp_path):
  lion = tmp_path / "lion.gin"
  lion.write_text("include 'runs/optimizers/lion.gin'")
  with pytest.raises(ConfigurationError, match="learning rates of AdamW only"):
    choice.resolved(read("FLOPS = 2e12", files=[tmp_path / "run.gin", lion]), no_notes)
  with pytest.raises(ConfigurationError, match="this run has 2; set FLOPS"):
    choice.resolved(read("MINUTES = 5"), no_notes, process_count=2)
