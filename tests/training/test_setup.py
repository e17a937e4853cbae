"""What a run is refused for before anything is compiled."""

import pytest

from t5x_style.training.setup import check_vocabulary


def test_rows_without_ids(tiny_config, tmp_path):
  """Those of a checkpoint are its own matter: deepseek-llm-7b has 102,400 for 100,015 tokens."""

  def sizes(rows, ids, path=None):
    config = tiny_config(
      "decoder_only", tmp_path, model={"vocab_size": rows}, initial_checkpoint_path=path
    )
    check_vocabulary(config, ids)

  sizes(102_400, 102_000)
  sizes(102_400, 100_015, "imported")
  with pytest.raises(ValueError, match="2385 rows would never be trained. Set VOCAB_SIZE = 100096"):
    sizes(102_400, 100_015)
  for path in (None, "imported"):
    with pytest.raises(ValueError, match="300 ids, the model only 256 rows; set VOCAB_SIZE = 300"):
      sizes(256, 300, path)


def test_a_model_dir_that_checkpoints_cannot_have(tiny_config, tmp_path):
  from t5x_style.training.setup import prepare

  with pytest.raises(ValueError, match="has a backslash in it"):
    prepare(tiny_config("decoder_only", tmp_path / "a\\b"))
  assert not [*tmp_path.iterdir()]
