"""A run is restored, started from random or other parameters, or refused."""

import shutil

import jax
import numpy as np
import pytest

from t5x_style.checkpoints import manager, restoring
from t5x_style.errors import UserError
from t5x_style.training import optimizers, setup
from tests import tiny


def test_starting_from_another_runs_parameters(tiny_config, tmp_path):
  first = tiny.train(tiny_config("decoder_only", tmp_path / "first", train_steps=2))
  path = str(tmp_path / "first")
  config = tiny_config(
    "decoder_only",
    tmp_path / "second",
    initial_checkpoint_path=path,
    optimizer=optimizers.adafactor,
  )
  job = restoring.open_run(setup.prepare(config))
  job.checkpoints.close()
  assert int(job.state.step) == 0
  jax.tree.map(np.testing.assert_array_equal, job.state.params, first.state.params)
  wrong = tiny_config(
    "decoder_only",
    tmp_path / "third",
    initial_checkpoint_path=path,
    model={"mlp_dim": 80},
  )
  with pytest.raises(ValueError, match="is not a checkpoint of this model"):
    restoring.open_run(setup.prepare(wrong))
  missing = tiny_config(
    "decoder_only", tmp_path / "x", initial_checkpoint_path=str(tmp_path / "no")
  )
  with pytest.raises(UserError, match="holds no complete checkpoint"):
    restoring.open_run(setup.prepare(missing))
  # A dry run finds the same.
  restoring.check_start(
    setup.prepare(tiny_config("decoder_only", tmp_path / "y", initial_checkpoint_path=path))
  )
  for bad, message in ((wrong, "not a checkpoint of this model"), (missing, "no complete check")):
    with pytest.raises(UserError, match=message):
      restoring.check_start(setup.prepare(bad))


def test_a_checkpoint_to_start_from_must_be_finite(tiny_config, tmp_path):
  prepared = setup.prepare(tiny_config("decoder_only", tmp_path / "spoilt"))
  state = prepared.init(0)
  spoilt = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
  with manager.Checkpoints(prepared.model_dir / "checkpoints") as saved:
    saved.save(spoilt, {"stream_00000": b"0"}, identity=prepared.identity(), progress={})
  with pytest.raises(UserError, match="cannot be used: .* not finite, in params/.* and . more"):
    restoring.open_run(prepared)
  path = str(tmp_path / "spoilt")
  other = tiny_config("decoder_only", tmp_path / "other", initial_checkpoint_path=path)
  with pytest.raises(UserError, match="INITIAL_CHECKPOINT_PATH = .* not finite, in decoder/"):
    restoring.open_run(setup.prepare(other))


DAMAGES = {
  "an empty folder of a later step": lambda newest: (newest.parent / "6").mkdir(),
  "no place in the data": lambda newest: shutil.rmtree(newest / "data"),
  "a place that is not one": lambda newest: (newest / "data/stream_00000").write_bytes(b"\x00"),
  "arrays cut short": lambda newest: [
    file.write_bytes(file.read_bytes()[:100]) for file in (newest / "state").rglob("d/*")
  ],
  "no list of arrays": lambda newest: (newest / "state" / "_METADATA").write_text("{"),
  "no description of the run": lambda newest: shutil.rmtree(newest / "run"),
}


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named_and_an_older_one_is_restored(tiny_config, tmp_path):
  settings = {"train_steps": 4, "save_period": 2}
  tiny.train(tiny_config("decoder_only", tmp_path / "run", **settings))
  for name, damage in DAMAGES.items():
    copy = tmp_path / name
    shutil.copytree(tmp_path / "run", copy)
    damage(copy / "checkpoints" / "4")
    damaged, older = (6, 4) if (copy / "checkpoints" / "6").exists() else (4, 2)
    match = f"checkpoints/{damaged}', cannot be used: (.|\\n)* to resume from step {older}."
    with pytest.raises(UserError, match=match):
      restoring.open_run(setup.prepare(tiny_config("decoder_only", copy, **settings)))
    if name in ("arrays cut short", "no list of arrays"):
      config = tiny_config("decoder_only", tmp_path / "new", initial_checkpoint_path=str(copy))
      with pytest.raises(
        UserError, match="INITIAL_CHECKPOINT_PATH.* (cannot be read|is not a whole)"
      ):
        restoring.open_run(setup.prepare(config))
    (copy / "checkpoints" / str(damaged)).rename(copy / "moved")
    assert tiny.train(tiny_config("decoder_only", copy, **settings)).first_step == older
