"""Mistakes in a configuration that are reported before anything is compiled."""

import dataclasses
import warnings

import pytest

from t5x_style.errors import UserError
from t5x_style.models import RotaryScaling
from t5x_style.training import setup
from t5x_style.training.setup import check_vocabulary
from t5x_style.training.stage import Stage


def test_rows_without_ids(tiny_config, tmp_path):
  """Few are allowed, any number from a checkpoint: deepseek-llm-7b has 102,400 for 100,015 ids."""

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


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"mesh_shape": {"data": 3}}, "Mesh data=3 needs 3 devices, 1 is present; set MESH_SHAPE"),
    ({"mesh_shape": {"model": 2}}, "names the axis 'model'"),
    ({"num_microbatches": 3}, "BATCH_SIZE = 8 does not divide .* set BATCH_SIZE = 9"),
    ({"model": {"vocab_size": 90}}, "has 96 ids, the model only 90 rows; set VOCAB_SIZE = 96"),
    (
      {"best_metric": "acuracy"},
      "BEST_METRIC = 'acuracy' is not in the validation records of this run; they have loss, acc",
    ),
    ({"best_metric": "exact_match"}, "not in the validation records of this run"),
    ({"model": {"vocab_size": 32128}}, "96 ids, smaller than the model's 32128"),
  ],
)
def test_mistakes_are_refused_before_anything_is_compiled(changes, message, tiny_config, tmp_path):
  with pytest.raises(ValueError, match=message):
    setup.prepare(tiny_config("decoder_only", **{"model_dir": tmp_path, **changes}))


def test_rows_beyond_the_scaled_positions_are_warned_of(tiny_config, tmp_path):
  """The rows of a decoder have 8 tokens."""

  def prepare(factor, kind="yarn"):
    scaling = RotaryScaling(factor=factor, kind=kind, original_length=4)
    setup.prepare(tiny_config("decoder_only", tmp_path, model={"rotary_scaling": scaling}))

  with pytest.warns(UserWarning, match=r"Rows have 8 tokens, .* scaled for 6: 1.5 times the 4"):
    prepare(1.5)
  with warnings.catch_warnings():
    warnings.simplefilter("error", UserWarning)
    prepare(2.0)
    prepare(1.5, kind="llama3")


@pytest.mark.parametrize(("most", "fits"), [(None, True), (6, True), (5, False)])
def test_data_that_ends_before_the_run_is_an_error(most, fits, tiny_config, tmp_path):
  """The run has 6 steps; a stage that begins after 4 of them needs 2 batches."""
  prepared = setup.prepare(tiny_config("decoder_only", tmp_path, train_steps=6))
  prepared.dataset.most_batches = most
  setup.check_enough_data(dataclasses.replace(prepared, stage=Stage(first=4)))
  if fits:
    setup.check_enough_data(prepared)
    return
  with pytest.raises(UserError, match=r"5 batches of BATCH_SIZE = 8 .* 6 steps .* after step 5 "):
    setup.check_enough_data(prepared)
