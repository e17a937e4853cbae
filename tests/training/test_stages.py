"""Staged training: what changes on the way, what stays, and runs that resume in any stage."""

import dataclasses
import functools
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from t5x_style.checkpoints import restoring, retention
from t5x_style.errors import UserError
from t5x_style.models import Experts
from t5x_style.reporting import reporter, run_description, terminal
from t5x_style.results import run_folder
from t5x_style.training import loop, schedules, setup, stages, synthetic
from t5x_style.training.stage import Stage
from tests import tiny

LAST = 7


def config(model_dir, length=8, **changes):
  """Returns the configuration of a stage of a decoder in rows of `length` tokens."""
  lengths = {"targets": length}
  return tiny.config(
    "decoder_only",
    model_dir,
    **{
      "dataset": functools.partial(synthetic.load, feature_lengths=lengths, vocab_size=96),
      "train_steps": LAST,
      "log_period": 2,
      "eval_period": 4,
      "save_period": 1,
      "keep_checkpoints": 100,
      **changes,
    },
  )


def staged(model_dir, second=(), third=(), ends=(3, 5), **changes):
  """Builds the three stages of a run: small batches; larger ones; longer rows and another base."""
  run = [
    setup.prepare(config(model_dir, batch_size=4, **changes), stage=Stage("start", last=ends[0]))
  ]
  settings = {"batch_size": 8, **changes, **dict(second)}
  run.append(stages.prepare_next(run[0], config(model_dir, **settings), "batch", ends[1]))
  settings = {
    "length": 16,
    "batch_size": 4,
    "model": {"rotary_base": 5e4},
    **changes,
    **dict(third),
  }
  run.append(stages.prepare_next(run[1], config(model_dir, **settings), "long", None))
  return run


def train(run, reports=reporter.RunReporter):
  job = restoring.open_run(run[0], later=run[1:])
  return loop.train(job, reports(job.prepared, job.first_step, terminal.Terminal(enabled=False)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The folder and the result of a run that nothing has disturbed."""
  folder = tmp_path_factory.mktemp("staged") / "run"
  return folder, train(staged(folder))


def test_batches_lengths_and_records_follow_the_stages(whole):
  folder, result = whole
  records = tiny.records(folder)
  # A record every second step, and one at the end of each stage.
  assert [(record["step"], record["stage"]) for record in records] == [
    *((2, 1), (3, 1), (4, 2), (5, 2), (6, 3))
  ]
  tokens = np.diff([0, *(record["tokens"] for record in records)])
  assert tokens.tolist() == [2 * 4 * 8, 4 * 8, 8 * 8, 8 * 8, 4 * 16]
  validation = tiny.records(folder, "validation")
  assert [(record["step"], record["stage"]) for record in validation] == [
    *((3, 1), (4, 2), (5, 2), (7, 3))
  ]
  assert result.complete and int(result.state.step) == LAST
  assert result.job.prepared.stage.name == "long" and not result.job.later
  assert result.job.prepared.config.model.rotary_base == 5e4


def copy_until(folder, step, to):
  """Copies a run as a kill after `step` steps leaves it."""
  shutil.copytree(folder, to)
  for checkpoint in (to / "checkpoints").iterdir():
    if checkpoint.name.isdigit() and int(checkpoint.name) > step:
      shutil.rmtree(checkpoint)
  return to


@pytest.mark.parametrize(
  "step", [3, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 2, 4, 5, 6, 7))]
)
def test_a_run_resumes_exactly_before_at_and_after_the_start_of_a_stage(step, whole, tmp_path):
  folder, undisturbed = whole
  again = train(staged(copy_until(folder, step, tmp_path / "run")))
  assert again.first_step == step
  jax.tree.map(np.testing.assert_array_equal, undisturbed.state, again.state)
  for split in ("train", "validation"):
    assert tiny.records(tmp_path / "run", split) == tiny.records(folder, split)
  assert again.complete


@pytest.mark.slow
@pytest.mark.slow
def test_a_stage_ends_where_a_run_of_its_settings_does(whole, tmp_path):
  """The first stage is a run of its own, and such a run may get stages when it resumes."""
  folder, undisturbed = whole
  alone = tiny.train(config(tmp_path / "run", batch_size=4, train_steps=3))
  saved = restoring.open_run(staged(copy_until(folder, 3, tmp_path / "copy"))[0]).state
  jax.tree.map(np.testing.assert_array_equal, alone.state.params, saved.params)
  longer = train(staged(tmp_path / "run"))
  jax.tree.map(np.testing.assert_array_equal, longer.state.params, undisturbed.state.params)


@pytest.mark.slow
def test_a_stage_that_is_added_at_the_step_of_a_checkpoint_begins_its_own_averages(whole, tmp_path):
  """The run stopped between two records; what it had added up is of the stage before."""
  train([setup.prepare(config(tmp_path / "run", batch_size=4, train_steps=3))])
  train(staged(tmp_path / "run"))
  found = {x["step"]: x["loss"] for x in tiny.records(tmp_path / "run")}
  undisturbed = {x["step"]: x["loss"] for x in tiny.records(whole[0])}
  assert sorted(found) == [2, 4, 5, 6] and sorted(undisturbed) == [2, 3, 4, 5, 6]
  assert found == {step: loss for step, loss in undisturbed.items() if step != 3}


def test_stages_read_other_rows(tmp_path):
  run = staged(tmp_path, third={"length": 8, "batch_size": 8})
  first = [next(prepared.dataset.train())["decoder_target_tokens"] for prepared in run]
  assert (first[1] != first[2]).any()
  same = setup.prepare(config(tmp_path, batch_size=4)).dataset
  np.testing.assert_array_equal(first[0], next(same.train())["decoder_target_tokens"])


@pytest.mark.slow
def test_past_stages_cannot_change_and_later_ones_can(whole, tmp_path):
  copy = copy_until(whole[0], 4, tmp_path / "run")
  # Step 4 is of the second stage: the first one is past, the second one under way.
  for changes in ({"ends": (2, 5)}, {"second": {"batch_size": 16}}, {"seed": 1}):
    with pytest.raises(UserError, match="holds checkpoints of another run"):
      train(staged(copy, **changes))
  with pytest.raises(UserError, match=r'- "until_step": 3'):
    train(staged(copy, ends=(2, 5)))
  result = train(staged(copy, third={"length": 32, "batch_size": 8}, ends=(3, 6)))
  assert result.first_step == 4
  assert [(record["step"], record["stage"]) for record in tiny.records(copy)] == [
    *((2, 1), (3, 1), (4, 2), (6, 2))
  ]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"seed": 1}, "Stage 2, 'batch': seed cannot change during a run"),
    ({"model": {"mlp_dim": 128}}, "TransformerConfig.mlp_dim cannot change"),
    ({"clip_gradient_norm": 1.0}, "clip_gradient_norm cannot change"),
    ({"train_steps": 9}, "train_steps cannot change"),
    ({"batch_size": 6, "num_microbatches": 4}, "Stage 2, 'batch'"),
  ],
)
def test_what_may_not_change_is_refused_before_the_first_step(changes, message, tmp_path):
  with pytest.raises(UserError, match=message):
    staged(tmp_path, second=changes)
  assert not [*tmp_path.iterdir()]


def test_dropout_inside_experts_may_change_and_nothing_else_of_them(tmp_path):
  old, new = (
    config(tmp_path, model={"experts": Experts(num_experts=4, dropout_rate=rate)})
    for rate in (0.0, 0.4)
  )
  first = setup.prepare(old, stage=Stage("start", last=3))
  following = stages.prepare_next(first, new, "dropout", None)
  assert following.config.model.experts.dropout_rate == 0.4
  other = config(tmp_path, model={"experts": Experts(num_experts=4, router_jitter=0.1)})
  with pytest.raises(UserError, match=r"TransformerConfig.experts cannot change"):
    stages.prepare_next(first, other, "jitter", None)


def test_other_learning_rates_are_refused(tmp_path):
  with pytest.raises(UserError, match="the learning rate of step 1 is"):
    staged(tmp_path, second={"schedule": schedules.constant(1e-2)})


class _Stopped(reporter.RunReporter):
  """Asks the run to stop, as SIGTERM does, during the last step of its first stage."""

  def after_step(self, step, metrics, compiled):
    super().after_step(step, metrics, compiled)
    if step == 3:
      os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_stage_that_a_signal_ends_is_evaluated_when_the_run_resumes(whole, tmp_path):
  stopped = train(staged(tmp_path / "run"), _Stopped)
  assert not stopped.complete and int(stopped.state.step) == 3
  assert tiny.records(tmp_path / "run", "validation") == []
  again = train(staged(tmp_path / "run"))
  assert again.first_step == 3
  for split in ("train", "validation"):
    assert tiny.records(tmp_path / "run", split) == tiny.records(whole[0], split)
  jax.tree.map(np.testing.assert_array_equal, whole[1].state, again.state)


def test_the_guard_forgets_the_losses_of_the_stage_before(whole):
  prepared = whole[1].job.prepared
  state = whole[1].state
  assert int(state.guard.normal) == LAST - 5
  at_start = state.replace(step=0 * state.step + 5)
  begun = stages.begin(prepared, at_start)
  assert int(begun.guard.normal) == 0
  assert int(begun.guard.skipped) == int(state.guard.skipped)
  assert stages.begin(prepared, state) is state


def test_at():
  class Part:
    def __init__(self, last_step):
      self.last_step = last_step

  run = [Part(3), Part(5), Part(7)]
  assert [stages.at(run, step) for step in (0, 1, 3, 4, 5, 6, 7, 9)] == [0, 0, 0, 1, 1, 2, 2, 2]


def test_the_best_checkpoint_is_one_of_the_newest_stage(whole):
  folders = [whole[0] / "checkpoints" / str(step) for step in range(1, LAST + 1)]
  assert [retention.stage_of(folder) for folder in folders] == [1, 1, 1, 2, 2, 3, 3]
  assert retention.best_of(folders) == folders[6]
  assert retention.best_of(folders[:5]) in folders[3:5]


def test_a_run_says_what_its_stages_are(whole):
  run = staged(whole[0])
  lines = run_description.facts(*run)["stages"].splitlines()
  assert lines[1].startswith("2, batch: steps 4 to 5, 8 x 8 tokens, ")
  info = run_description.run_info(run, 0, {}, "")
  flops = [prepared.step_flops for prepared in run]
  assert [stage["step_flops"] for stage in info["stages"]] == flops
  records = dataclasses.replace(run_folder.read(whole[0]), info=info)
  curve = records.curve("validation", "loss")
  wanted = [3 * flops[0], 3 * flops[0] + flops[1], 3 * flops[0] + 2 * flops[1]]
  np.testing.assert_allclose(curve.flops, [*wanted, wanted[-1] + 2 * flops[2]])
  assert "stage" not in records.names("train")
