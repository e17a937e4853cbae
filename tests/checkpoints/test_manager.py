"""Which checkpoints are kept, and which one is the newest."""

import shutil

import pytest
from etils import epath

from t5x_style.checkpoints import manager, reading, step_folders, warm_start
from t5x_style.errors import UserError
from t5x_style.training import schedules
from tests import tiny


def test_newest_and_best_checkpoints_are_kept(tiny_config, tmp_path):
  rising = schedules.linear(3.0, total_steps=6)  # So large a rate that later losses are worse.
  tiny.train(
    tiny_config(
      "decoder_only",
      tmp_path,
      train_steps=6,
      save_period=1,
      eval_period=1,
      keep_checkpoints=2,
      schedule=rising,
    )
  )
  losses = {r["step"]: r["loss"] for r in tiny.records(tmp_path, "validation")}
  best = min(losses, key=losses.get)
  kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
  assert kept == {5, 6, best}


def test_the_newest_complete_step_is_found(tiny_config, tmp_path):
  tiny.train(tiny_config("decoder_only", tmp_path, train_steps=2, save_period=1))
  (tmp_path / "checkpoints" / "7").mkdir()  # A checkpoint that was begun and never written.
  (tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp-1" / "state").mkdir(parents=True)
  newest = step_folders.find_step(epath.Path(tmp_path))
  assert newest == epath.Path(tmp_path) / "checkpoints" / "2"


def test_in_a_bucket_a_step_counts_once_it_is_marked(small_state, tmp_path, monkeypatch):
  """A process that is killed while it saves leaves a step with all its files and no marker."""
  monkeypatch.setattr(step_folders, "renames", lambda path: False)
  with manager.Checkpoints(tmp_path / "checkpoints", keep=1, keep_best=0) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(small_state(step), {"stream": b"x"}, identity={}, progress={})
  assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]
  unfinished = tmp_path / "checkpoints/4"
  shutil.copytree(tmp_path / "checkpoints/3", unfinished)
  (unfinished / "commit_success.txt").unlink()
  again = manager.Checkpoints(tmp_path / "checkpoints", keep=1, keep_best=0)
  assert (again.latest(), again.steps()) == (3, [3])
  assert step_folders.find_step(epath.Path(tmp_path)).name == "3"
  params = small_state(0).params
  with pytest.raises(UserError, match="INITIAL_CHECKPOINT_PATH.*4' .*interrupted.*commit_success"):
    warm_start.check_initial(str(unfinished), None, params)
  again.save(small_state(4), {"stream": b"y"}, identity={}, progress={})
  again.wait()
  assert (again.latest(), again.steps()) == (4, [4])
  folder = epath.Path(tmp_path) / "checkpoints/4"
  assert reading.read_streams(folder, reading.read_run(folder)) == {"stream": b"y"}
