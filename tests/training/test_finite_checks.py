"""Losses, gradients and states that are not finite end a run before they are saved."""

import jax
import pytest

from tests import tiny


@pytest.mark.parametrize("save_period", [1, 2, 5])
def test_values_that_are_not_finite_stop_the_run_and_are_not_saved(
  save_period, tiny_config, tmp_path
):
  """Step 4 makes the parameters useless; no record is due, and only one step is left."""
  spoil = lambda step: jax.numpy.where(step == 3, 1e30, 1e-3)
  settings = {"train_steps": 5, "log_period": 50, "save_period": save_period}
  with pytest.raises(FloatingPointError, match="step [45](.*)Lower the learning rate"):
    tiny.train(tiny_config("decoder_only", tmp_path, schedule=spoil, **settings))
  saved = sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("[0-9]*"))
  assert saved == [step for step in (1, 2, 3) if step % save_period == 0]
  sane = tiny.train(tiny_config("decoder_only", tmp_path, **settings))
  assert sane.first_step == max(saved, default=0)
  assert sane.validation["loss"] < 6
