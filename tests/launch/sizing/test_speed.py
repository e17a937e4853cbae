"""Minutes become FLOPs by the speed of the model that is chosen."""

import types

import pytest

from launch.sizing import speed
from t5x_style.errors import UserError


def run(width, steps=1, rows=8):
  return types.SimpleNamespace(
    model=types.SimpleNamespace(emb_dim=width), batch_size=rows, train_steps=steps, step_flops=1e9
  )


def test_compilation_and_evaluations_take_their_share():
  """10 of 100 s compile; 10 evaluations of 12 batches take a third of a step for each batch."""
  assert speed.steps_in(100.0, speed.Speed(step=0.5, compile=10.0), 12) == pytest.approx(140)


def test_the_model_that_is_chosen_is_the_one_that_was_timed():
  """Wide models are faster here: the first choice leads to more FLOPs, these to a wider model."""
  rates = {64: 1e9, 128: 2e9, 256: 4e9}
  timed = []

  def time_it(run):
    timed.append(run.model.emb_dim)
    return speed.Speed(1e9 / rates[run.model.emb_dim], compile=0.0)

  def choose(flops):
    width = 64 if flops < 5e10 else 128 if flops < 1e11 else 256
    return run(width, steps=round(flops / 1e9))

  found, measured = speed.run_of_minutes(1.0, run(64), choose, time_it, eval_batches=0)
  assert timed == [64, 128, 256] and found.model.emb_dim == 256
  assert found.train_steps * measured.step == pytest.approx(60)


def test_minutes_that_only_compile_are_refused():
  slow = speed.Speed(step=1.0, compile=70.0)
  with pytest.raises(UserError, match="MINUTES = 1 are too few: compiling took 70 s"):
    speed.run_of_minutes(1.0, run(64), lambda flops: run(64), lambda run: slow, 0)


@pytest.mark.slow
def test_real_steps_are_timed(tiny_config, tmp_path):
  found = speed.measure(tiny_config("decoder_only", tmp_path))
  assert 0 < found.step < 1 and found.compile > 0
