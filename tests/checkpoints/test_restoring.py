"""A run is restored, started from random or other parameters, or refused."""

import functools

import jax
import numpy as np
import pytest

from t5x_style.checkpoints import manager, restoring
from t5x_style.errors import UserError
from t5x_style.training import optimizers, setup
from tests import tiny
from tests.checkpoints.damages import DAMAGES, change_a_number


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
  with pytest.raises(UserError, match="  0: it holds .* not finite, in params/.* and . more"):
    restoring.open_run(prepared)
  path = str(tmp_path / "spoilt")
  other = tiny_config("decoder_only", tmp_path / "other", initial_checkpoint_path=path)
  with pytest.raises(UserError, match="INITIAL_CHECKPOINT_PATH = .* not finite, in decoder/"):
    restoring.open_run(setup.prepare(other))


@pytest.mark.parametrize("scan_layers", [True, False])
def test_a_checkpoint_to_start_from_is_verified(tiny_config, tmp_path, scan_layers):
  """Also where its layers are unrolled to those of the new model."""
  tiny.train(tiny_config("decoder_only", tmp_path / "first", train_steps=1))
  change_a_number(tmp_path / "first" / "checkpoints" / "1")
  config = functools.partial(
    tiny_config,
    "decoder_only",
    tmp_path / "second",
    model={"scan_layers": scan_layers},
    initial_checkpoint_path=str(tmp_path / "first"),
  )
  with pytest.raises(
    UserError,
    match="INITIAL_CHECKPOINT_PATH = .* cannot be read: 1 of 11 arrays in state/ are not what was "
    "saved: params/token_embed/embedding",
  ):
    restoring.open_run(setup.prepare(config()))
  job = restoring.open_run(setup.prepare(config(verify_checkpoints=False)))
  job.checkpoints.close()
  assert job.first_step == 0


@pytest.mark.parametrize(
  "name", ["every array file is cut in half", "the list of arrays is broken", "no state"]
)
def test_a_checkpoint_to_start_from_that_cannot_be_read(name, tiny_config, tmp_path):
  tiny.train(tiny_config("decoder_only", tmp_path / "first", train_steps=1))
  step = tmp_path / "first" / "checkpoints" / "1"
  DAMAGES[name][0](step)
  path = str(tmp_path / "first")
  config = tiny_config("decoder_only", tmp_path / "new", initial_checkpoint_path=path)
  with pytest.raises(
    UserError, match="INITIAL_CHECKPOINT_PATH.* (cannot be read|is not a whole|no complete)"
  ):
    restoring.open_run(setup.prepare(config))
