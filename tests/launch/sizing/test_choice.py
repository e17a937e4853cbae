"""MINUTES and FLOPS of a configuration: what they set, what config.gin says, what is refused."""

import dataclasses
import json

import pytest

from launch.process.errors import ConfigurationError
from launch.sizing import choice, speed
from t5x_style.errors import UserError
from t5x_style.training import setup, train_config
from tests.partitioning.fake_devices import nodes


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
  """At 1e10 FLOP/s, after 10 s of compiling, with 10 evaluations of 8 batches, of a still clock."""

  def measured(config):
    return speed.Speed(setup.prepare(config).step_flops / 1e10, 10.0)

  monkeypatch.setattr(speed, "measure", measured)
  monkeypatch.setattr(choice, "_now", lambda: 0.0)
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


@pytest.mark.parametrize("value", ["0", "-1", "'x'", "True", "1e999"])
def test_budgets_are_positive_numbers(read, value):
  with pytest.raises(ConfigurationError, match="MINUTES"):
    read(f"MINUTES = {value}")


def test_minutes_and_flops_are_not_set_together(read):
  with pytest.raises(UserError, match="are both set"):
    choice.resolved(read("MINUTES = 5", "FLOPS = 1e12"), no_notes)


def test_rows_of_a_batch_need_not_fit_the_devices(read):
  """BATCH_SIZE = 128 is not a multiple of 6 microbatches; the chosen batch is."""
  found = choice.resolved(read("FLOPS = 2e12", "NUM_MICROBATCHES = 6"), no_notes)
  assert found.settings.macro("BATCH_SIZE") % 6 == 0


@pytest.mark.parametrize(
  "kind, shape, parts", [("TPU v4", None, 4), ("TPU v4", {"data": -1}, 1), ("cpu", None, 1)]
)
def test_copies_of_parameters_take_their_own_memory(read, monkeypatch, kind, shape, parts):
  """32,000 bytes for a device: half of them for 16 bytes of each parameter."""
  devices = [dataclasses.replace(x, platform="tpu", device_kind=kind) for x in nodes(2)]
  monkeypatch.setattr(choice, "_memory", lambda devices: 32_000)
  config = dataclasses.replace(build(read()), mesh_shape=shape)
  assert choice._most_parameters(config, devices) == 1000 * parts


def test_large_numbers_have_no_exponents():
  numbers = (0.246, 31.4, 99.4, 99.6, 480.2, 1480)
  assert [choice._rounded(x) for x in numbers] == ["0.25", "31", "99", "100", "480", "1,480"]
