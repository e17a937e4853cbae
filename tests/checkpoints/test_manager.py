"""Which checkpoints are kept, and which one is the newest."""

from etils import epath

from t5x_style.checkpoints import step_folders
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
