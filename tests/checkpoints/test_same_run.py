"""A run resumes only from its own checkpoints."""

import json

import pytest

from t5x_style.checkpoints import restoring, same_run
from t5x_style.training import setup
from tests import tiny


def test_another_run_in_model_dir_is_refused_with_the_difference(tiny_config, tmp_path):
  tiny.train(tiny_config("decoder_only", tmp_path, train_steps=1))
  before = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  other = setup.prepare(tiny_config("decoder_only", tmp_path, model={"mlp_dim": 128}))
  with pytest.raises(ValueError, match="another run") as error:
    restoring.open_run(other)
  assert '- "mlp_dim": 64' in str(error.value)
  assert '+ "mlp_dim": 128' in str(error.value)
  assert "emb_dim" not in str(error.value)
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == before


def test_a_checkpoint_older_than_an_option_is_of_the_same_run(tiny_config, tmp_path):
  prepared = setup.prepare(tiny_config("decoder_only", tmp_path))
  saved = json.loads(json.dumps(prepared.identity()))
  del saved["model"]["attention_windows"]
  same_run.check_same_run(prepared, saved)
  saved["model"]["attention_windows"] = [64]
  with pytest.raises(ValueError, match="another run"):
    same_run.check_same_run(prepared, saved)
