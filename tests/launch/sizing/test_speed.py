"""Minutes become FLOPs by the speed of the model that is chosen."""

import types

import pytest

from launch.sizing import speed
from t5x_style.errors import UserError
from t5x_style.planning import sizing


def run(width, steps=1, rows=8):
  return types.SimpleNamespace(
    model=types.SimpleNamespace(emb_dim=width),
    batch_size=rows,
    train_steps=steps,
    step_flops=1e9 * rows / 8,
  )


def plan(model, flops):
  """A batch of 4 rows, half of those that are timed."""
  return run(model.emb_dim, round(flops / 5e8), rows=4)


def minutes(number, choose, timed, spent=lambda: 0.0, eval_batches=0):
  return speed.Minutes(number, eval_batches, choose, plan, timed, spent)


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

  found, measured = minutes(1.0, choose, time_it).run(run(64))
  assert timed == [64, 128, 256] and found.model.emb_dim == 256
  assert found.train_steps * measured.step == pytest.approx(60)


def test_timing_takes_its_share():
  """12 of 60 s go by while the model is timed, and its run compiles for 10 s."""
  clock = [0.0]

  def time_it(run):
    clock[0] += 12.0
    return speed.Speed(0.1, compile=10.0)

  of_minute = minutes(1.0, lambda flops: run(64, round(flops / 1e9)), time_it, lambda: clock[0])
  found, _ = of_minute.run(run(64))
  assert found.train_steps == 380


def test_of_sizes_that_lead_to_each_other_the_largest_that_fits_is_planned():
  """The wide model is so slow here that its speed leads back to the narrow one."""
  steps = {64: 0.01, 128: 0.5}

  def choose(flops):
    return run(128 if flops > 1e12 else 64)

  def time_it(run):
    return speed.Speed(steps[run.model.emb_dim], compile=0.0)

  found, measured = minutes(1.0, choose, time_it).run(run(64))
  assert (found.model.emb_dim, found.batch_size, found.train_steps) == (128, 4, 240)
  assert found.train_steps * measured.step == pytest.approx(60)
  steps[128] = 30.0  # Only four of its steps fit.
  found, measured = minutes(1.0, choose, time_it).run(run(64))
  assert (found.model.emb_dim, found.train_steps) == (64, 12_000)


def test_no_other_model_is_timed_when_half_of_the_minutes_are_over():
  clock, timed = [0.0], []

  def time_it(run):
    clock[0] += 20.0
    timed.append(run.model.emb_dim)
    return speed.Speed(0.1, compile=10.0)

  found, _ = minutes(1.0, lambda flops: run(128), time_it, lambda: clock[0]).run(run(64))
  assert timed == [64] and (found.model.emb_dim, found.train_steps) == (64, 600)


def test_minutes_that_are_over_before_training_are_refused():
  """10 evaluations of 12 batches take as long as 40 steps."""

  def too_small(flops):
    raise sizing.TooSmall("FLOPs")

  slow = speed.Speed(step=2.0, compile=5.0)
  with pytest.raises(UserError) as error:
    minutes(1.5, too_small, lambda run: slow, lambda: 7.0, eval_batches=12).run(run(64))
  assert str(error.value) == (
    "MINUTES = 1.5 are too few for 20 steps: the choice took 7.0 s; of the run, compiling takes "
    "5.0 s, a step 2 s, and its 10 evaluations with EVAL_BATCHES = 12 take 1 min 20 s. Set a "
    "larger number."
  )


@pytest.mark.slow
def test_real_steps_are_timed(tiny_config, tmp_path):
  found = speed.measure(tiny_config("decoder_only", tmp_path))
  assert 0 < found.step < 1 and found.compile > 0
