"""The guard: what it skips, what a skipped step changes, and what follows several in a row."""

import dataclasses
import functools
import json
import shutil
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.training import guard, schedules, setup
from t5x_style.training.guard import Guard, Verdict
from tests import tiny


def judged(values, **settings):
  """Returns the guard after these (loss, gradient norm), the updates and the verdicts."""
  settings = {"spike_sigmas": 6.0, "patience": 5} | settings
  judge = jax.jit(functools.partial(guard.judge, **settings))
  memory, updates, verdicts = Guard.new(), [], []
  for loss, grad_norm in values:
    memory, update, verdict = judge(memory, jnp.float32(loss), jnp.float32(grad_norm))
    updates.append(bool(update))
    verdicts.append(Verdict(int(verdict)))
  return memory, updates, verdicts


def wavy(count, mean=4.0):
  """Returns losses and gradient norms that vary, by up to an eighth of their mean."""
  waves = np.random.default_rng(0).uniform(-1, 1, (count, 2))
  return [(mean + x * mean / 8, 1 + y / 8) for x, y in waves]


@pytest.mark.parametrize("quantity", [0, 1])
@pytest.mark.parametrize(("sigmas", "found"), [(5.9, Verdict.NORMAL), (6.1, Verdict.SPIKE)])
def test_a_spike_is_six_standard_deviations_above_the_last_128_steps(quantity, sigmas, found):
  values = wavy(200)
  last = [value[quantity] for value in values[-128:]]
  odd = list(values[-1])
  odd[quantity] = statistics.fmean(last) + sigmas * statistics.pstdev(last)
  _, updates, verdicts = judged([*values, odd])
  assert verdicts == [Verdict.NORMAL] * 200 + [found]
  assert updates[-1] == (found == Verdict.NORMAL)


def test_a_huge_spike_does_not_hide_a_smaller_one():
  values = wavy(50)
  memory, updates, _ = judged([*values, (4, 1e6), (4, 1), (4, 100), (4, 1)])
  assert updates[50:] == [False, True, False, True]
  assert (int(memory.skipped), int(memory.spikes)) == (2, 2)


def test_without_a_setting_spikes_are_counted_and_not_skipped():
  memory, updates, verdicts = judged([*wavy(50), (4, 1e6)], spike_sigmas=None)
  assert verdicts[-1] == Verdict.SPIKE
  assert all(updates)
  assert (int(memory.skipped), int(memory.spikes)) == (0, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("quantity", [0, 1])
def test_what_is_not_finite_never_updates(value, quantity):
  odd = [4.0, 1.0]
  odd[quantity] = value
  memory, updates, verdicts = judged([odd, odd, (4, 1), odd], spike_sigmas=None)
  assert updates == [False, False, True, False]
  assert verdicts[-1] == Verdict.NOT_FINITE
  assert (int(memory.skipped), int(memory.not_finite_in_a_row)) == (3, 1)
  assert np.isfinite([*memory.losses, *memory.grad_norms]).all()


def test_a_lasting_change_is_not_skipped_for_ever():
  """Other data raises the loss; after as many spikes as the patience, its level is the normal."""
  _, updates, _ = judged([*wavy(50), *wavy(50, mean=9.0)], patience=3)
  assert updates == [True] * 50 + [False] * 3 + [True] * 47


def test_a_flat_loss_makes_no_spike_of_a_small_change():
  _, _, verdicts = judged([(0.05, 0.2)] * 50 + [(0.053, 0.21)])
  assert verdicts[-1] == Verdict.NORMAL


def test_json_keeps_every_bit():
  memory, _, _ = judged([*wavy(150), (4, 1e6), (np.nan, 1)])
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), memory)
  restored = Guard.from_json(json.loads(json.dumps(memory.as_json())), abstract)
  jax.tree.map(np.testing.assert_array_equal, memory, restored)


class Chosen:
  """A dataset whose batches are listed; None is one with a loss that is not a number.

  A function is called first, and its batch is one of the latter kind.
  """

  def __init__(self, dataset, numbers):
    self._dataset, self._numbers, self._next = dataset, numbers, 0

  def __getattr__(self, name):
    return getattr(self._dataset, name)

  def train(self):
    return Chosen(self._dataset, self._numbers)

  def __next__(self):
    number = self._numbers[self._next]
    self._next += 1
    if callable(number):
      number = number()
    batch = self._dataset.batch(number or 0)
    if number is None:
      weights = f"{'en' if 'encoder_loss_weights' in batch else 'de'}coder_loss_weights"
      batch[weights] = batch[weights] * np.float32("nan")
    return batch

  def get_state(self):
    return {"stream_00000": json.dumps(self._next).encode()}

  def set_state(self, state):
    self._next = json.loads(state["stream_00000"])

  def epochs(self):
    return {}

  def skipped(self):
    return ""


def saved(step):
  """Waits until a step is committed."""
  deadline = time.monotonic() + 60
  while not step.exists() and time.monotonic() < deadline:
    time.sleep(0.01)


def train(config, numbers, steps=None, **changes):
  load = config.dataset
  return tiny.train(
    dataclasses.replace(
      config,
      dataset=lambda **kw: Chosen(load(**kw), numbers),
      train_steps=steps or len(numbers),
      **changes,
    )
  )


def trained(result):
  """Returns what a step updates."""
  return result.state.params, result.state.opt_state


@pytest.fixture
def changing(tiny_config):
  """Returns a function (architecture, folder) -> a run whose learning rate changes at each step."""
  schedule = schedules.cosine(3e-3, warmup_steps=2, total_steps=8)
  return lambda architecture, folder: tiny_config(
    architecture, folder, schedule=schedule, clip_gradient_norm=1.0
  )


@pytest.mark.parametrize(
  ("architecture", "parts"),
  [("decoder_only", 1), pytest.param("encoder_only", 2, marks=pytest.mark.slow)],
)
def test_a_skipped_step_changes_nothing(architecture, parts, changing, tmp_path):
  """The run ends as one that never saw the bad batch: in moments and place in the schedule too."""
  bad = train(changing(architecture, tmp_path / "bad"), [0, 1, None, 2, 3], num_microbatches=parts)
  good = train(changing(architecture, tmp_path / "good"), [0, 1, 2, 3], num_microbatches=parts)
  jax.tree.map(np.testing.assert_array_equal, trained(bad), trained(good))
  after_bad, after_good = (tiny.records(tmp_path / name) for name in ("bad", "good"))
  assert [r["skipped_steps"] for r in after_bad] == [0, 0, 1, 1, 1]
  assert "loss" not in after_bad[2]
  timeless = lambda record: {k: v for k, v in record.items() if k not in ("step", "skipped_steps")}
  assert [*map(timeless, after_bad[:2] + after_bad[3:])] == [*map(timeless, after_good)]


def test_averages_leave_skipped_steps_out(changing, tmp_path):
  train(changing("decoder_only", tmp_path / "bad"), [0, 1, None, 2], log_period=4)
  train(changing("decoder_only", tmp_path / "good"), [0, 1, 2], log_period=3)
  (bad,), (good,) = (tiny.records(tmp_path / name) for name in ("bad", "good"))
  assert bad == good | {"step": 4, "skipped_steps": 1}


def test_the_batch_of_a_skipped_step_is_saved_with_its_text(changing, tmp_path):
  config = changing("decoder_only", tmp_path)
  train(config, [0, None, 1])
  (path,) = (tmp_path / "skipped_batches").iterdir()
  assert path.name == "2-0.jsonl"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  batch = setup.prepare(config).dataset.batch(0)
  assert [row["row"] for row in rows] == list(range(8))
  for row in rows:
    expected = batch["decoder_target_tokens"][row["row"]].tolist()
    assert row["decoder_target_tokens"] == expected
    assert row["decoder_target_text"] == " ".join(map(str, expected))
    assert row["reason"].startswith("not finite: loss nan")


@pytest.mark.parametrize("save_period", [1, 3])
def test_several_in_a_row_end_the_run(save_period, changing, tmp_path):
  config = changing("decoder_only", tmp_path)
  numbers = [0, 1, None, 2, None, None, None, 3]
  with pytest.raises(FloatingPointError, match="3 steps in a row, 5 to 7 .MAX_SKIPPED_STEPS = 3"):
    train(config, numbers, max_skipped_steps=3, save_period=save_period)
  sane = train(config, [0, 1, 9, 2, 9, 9, 9, 3])
  assert sane.first_step in (6, 7 // save_period * save_period)
  jax.tree.map(lambda x: np.testing.assert_array_equal(np.isfinite(x), True), trained(sane))


def test_a_rollback_restores_the_checkpoint_and_leaves_the_data_out(changing, tmp_path):
  """The steps after the checkpoint are taken as if the batches between had never been there."""
  config = changing("decoder_only", tmp_path / "bad")
  # That step 5 is not finite is known after the batch of step 6, number 8, has been taken.
  bad = train(
    config,
    [0, 1, 2, None, None, 8, 3, 4, 5, 6, 9],
    steps=8,
    max_skipped_steps=2,
    roll_back=True,
    save_period=3,
  )
  good = train(changing("decoder_only", tmp_path / "good"), [0, 1, 2, 3, 4, 5, 6, 9], save_period=3)
  jax.tree.map(np.testing.assert_array_equal, trained(bad), trained(good))
  records = tiny.records(tmp_path / "bad")
  assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6, 7, 8]
  assert [r.get("rollbacks", 0) for r in records] == [0] * 3 + [1] * 5


@pytest.mark.slow
def test_a_rollback_goes_to_an_older_checkpoint_if_the_newest_is_damaged(changing, tmp_path):
  checkpoints = tmp_path / "bad" / "checkpoints"

  def damage():
    saved(checkpoints / "4")
    (checkpoints / "4/data/stream_00000").write_bytes(b"")

  config = changing("decoder_only", tmp_path / "bad")
  settings = {"steps": 6, "save_period": 2, "max_skipped_steps": 2, "roll_back": True}
  with pytest.warns(UserWarning, match="step 4 is damaged"):
    bad = train(config, [0, 1, 7, 8, damage, None, 2, 3, 4, 5], **settings)
  good = train(changing("decoder_only", tmp_path / "good"), [0, 1, 2, 3, 4, 5], save_period=2)
  jax.tree.map(np.testing.assert_array_equal, trained(bad), trained(good))
  assert {path.name for path in checkpoints.iterdir()} >= {"2", "4", "6", "damaged-4"}


def test_a_rollback_without_checkpoints_ends_the_run(changing, tmp_path):
  def lose():
    saved(tmp_path / "checkpoints/2")
    shutil.rmtree(tmp_path / "checkpoints")

  config = changing("decoder_only", tmp_path)
  with pytest.raises(FloatingPointError, match="2 steps in a row"):
    train(config, [0, 1, lose, None, 2], save_period=2, max_skipped_steps=2, roll_back=True)


def test_rollbacks_that_do_not_help_end_the_run(changing, tmp_path):
  config = changing("decoder_only", tmp_path)
  with pytest.raises(FloatingPointError, match="has rolled back to step 2 3 times"):
    train(config, [0, 1] + [None] * 20, steps=9, max_skipped_steps=2, roll_back=True, save_period=2)
  with pytest.raises(FloatingPointError, match="none was saved"):
    train(changing("decoder_only", tmp_path / "new"), [None] * 9, roll_back=True)


@pytest.mark.slow
def test_a_foreign_batch_is_a_spike_for_a_model_that_knows_its_text(tiny_config, tmp_path):
  config = tiny_config(
    "decoder_only", tmp_path, schedule=schedules.constant(1e-2), save_period=1000, log_period=70
  )
  numbers = [0] * 60 + [1] + [0] * 9
  noticed = train(config, numbers)
  (record,) = tiny.records(tmp_path)
  assert (record["skipped_steps"], record["spikes"]) == (0, 1)
  skipping = {"spike_sigmas": 6.0, "model_dir": str(tmp_path / "skipped")}
  skipped = train(config, numbers, **skipping)
  without = train(config, [0] * 69, model_dir=str(tmp_path / "without"))
  jax.tree.map(np.testing.assert_array_equal, trained(skipped), trained(without))
  assert not (
    noticed.state.params["token_embed"]["embedding"]
    == without.state.params["token_embed"]["embedding"]
  ).all()
  # The same in two starts: what the guard has seen of the first 30 steps is saved.
  skipping["model_dir"] = str(tmp_path / "parts")
  train(config, numbers, steps=59, **skipping)
  parts = train(config, numbers, **skipping)
  jax.tree.map(np.testing.assert_array_equal, parts.state, skipped.state)
