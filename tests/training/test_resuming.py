"""Which settings may change between two starts, and what is said about those that did."""

import dataclasses
import functools
import json
import re
from pathlib import Path

import pytest

from t5x_style.training import optimizers, resuming, schedules, setup
from t5x_style.training.train_config import TrainConfig
from tests.shipped import OPTIMIZERS

PRETRAIN = Path(__file__).parents[2] / "gin_configs/runs/pretrain.gin"


def changes(before, now, step=2):
  """Returns the lines that are shown when a run resumes from `step` with another configuration."""
  saved = setup.prepare(before).settings(step)
  return setup.prepare(now).changes(json.loads(json.dumps(saved)), step)


def test_every_setting_is_fixed_or_may_change():
  names = [field.name for field in dataclasses.fields(TrainConfig)]
  assert sorted([*resuming.FIXED, *resuming.MAY_CHANGE]) == sorted(names)


def test_changes_are_shown_with_the_names_of_gin():
  bound = dict(re.findall(r"^  (\w+) = %(\w+)$", PRETRAIN.read_text(), re.MULTILINE))
  for name, shown in resuming.MAY_CHANGE.items():
    assert shown in ("", bound.get(name)), name


def test_only_what_changed_is_shown(tiny_config, tmp_path):
  config = functools.partial(tiny_config, "decoder_only", tmp_path)
  assert changes(config(), config()) == []
  assert changes(config(), config(train_steps=8)) == ["TRAIN_STEPS: 4 -> 8"]
  assert changes(config(), config(model={"remat": "full"})) == ["REMAT: none -> full"]
  several = config(num_microbatches=2, log_period=3, clip_gradient_norm=1.0)
  assert sorted(changes(config(), several)) == [
    "CLIP_GRADIENT_NORM: None -> 1.0",
    "LOG_PERIOD: 1 -> 3",
    "NUM_MICROBATCHES: 1 -> 2",
  ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hyperparameters_of_every_optimizer_are_compared(name, tiny_config, tmp_path):
  config = functools.partial(tiny_config, "decoder_only", tmp_path)
  optimizer = getattr(optimizers, name)
  # All arguments but the learning rate.
  code = optimizer.__code__
  arguments = set(code.co_varnames[: code.co_argcount]) - {"learning_rate"}
  made = optimizer(schedules.constant(1.0))
  assert isinstance(made, optimizers.Described), f"return Described(...) from {name}"
  assert set(made.hyperparameters) == arguments, f"Described of {name} names all its arguments"
  before = config(optimizer=optimizer)
  after = config(optimizer=functools.partial(optimizer, weight_decay=0.25))
  (line,) = changes(before, after)
  assert re.fullmatch(rf"{name}\.weight_decay: [\d.]+ -> 0\.25", line)


def test_a_learning_rate_is_shown_at_the_first_step_that_differs(tiny_config, tmp_path):
  def config(schedule, train_steps=1000):
    return tiny_config("decoder_only", tmp_path, schedule=schedule, train_steps=train_steps)

  constant = config(schedules.constant(3e-4))
  assert changes(constant, config(schedules.constant(1e-3)), step=100) == [
    "the learning rate of step 101 is 0.001; before it was 0.0003",
    "the learning rate of step 1,000 is 0.001; before it was 0.0003",
  ]
  # The warm-up is over, and the decay is the same: nothing that is still to come differs.
  warm = [config(schedules.linear(1.0, 1000, warmup)) for warmup in (10, 10)]
  assert changes(*warm, step=100) == []
  # Only the end differs: step 1,000 is the update after 999 of 1,000.
  wsd = [config(schedules.wsd(1.0, 1000, final_fraction=end)) for end in (0.0, 0.5)]
  first, last = changes(*wsd, step=100)
  assert re.match(r"the learning rate of step 8\d\d is 0\.9", first)
  assert last == "the learning rate of step 1,000 is 0.5025; before it was 0.005"
  # The rates are those of updates; steps that were skipped come in addition.
  saved = setup.prepare(constant).settings(95)
  lines = setup.prepare(config(schedules.constant(1e-3))).changes(saved, 100)
  assert lines[0] == "the learning rate of step 101 is 0.001; before it was 0.0003"


def test_a_longer_run_shows_the_rate_that_its_schedule_makes_of_the_next_step(
  tiny_config, tmp_path
):
  def config(steps):
    schedule = schedules.cosine(1.0, steps, final_fraction=0.0)
    return tiny_config("decoder_only", tmp_path, schedule=schedule, train_steps=steps)

  assert changes(config(100), config(200), step=100) == [
    "TRAIN_STEPS: 100 -> 200",
    "the learning rate of step 101 is 0.5; before it was 0",
  ]


def test_checkpoints_without_settings_are_accepted(tiny_config, tmp_path):
  assert setup.prepare(tiny_config("decoder_only", tmp_path)).changes({}, 3) == []
