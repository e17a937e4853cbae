"""The command launch.precompile: its mistakes, and that it reads no data."""

import warnings

import pytest

from launch import precompile
from launch.benchmarks import step_cases
from launch.configuration import reader
from launch.process.errors import ConfigurationError
from t5x_style.training import train_config


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "--topology is missing: .* such as v4:2x2x4"),
    (["--topology=v9:2x2"], "names 'v9'"),
    (["--topology=v5e:4x4", "--write=x.gin"], "add --search"),
    (["--topology=v5e:4x4", "--slices=0"], "slices"),
    (["--topology=h100:16"], "a node has 1 to 8 GPUs"),
    (["--topology=v5e:4x4", "--price_per_chip_hour=-1"], "price_per_chip_hour"),
    (["--topology=v5e:4x4", "--dry_run"], "no flag --dry_run"),
  ],
)
def test_mistakes(arguments, message, monkeypatch):
  monkeypatch.setattr(precompile.environment, "prepare", lambda: None)
  monkeypatch.setattr(precompile.environment, "set_xla_flags", lambda *_: None)
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  with pytest.raises(ConfigurationError, match=message):
    precompile.main(["precompile", "--gin_file=quickstart.gin", *arguments])


def test_batches_have_their_true_shapes_and_nothing_is_read(tmp_path):
  """Neither the vocabulary's file nor the corpus exists; 512 inputs give 114 targets.

  Of four processes each has a data stream: there is nothing to warn about.
  """
  files = ["runs/pretrain.gin", "models/encoder_decoder_mini.gin", "data/c4.gin"]
  bindings = [f"MODEL_DIR = '{tmp_path}/untouched'", "VOCAB_SIZE = 32128", "DATA_STREAMS = 4"]
  settings = reader.read(
    [*files, "objectives/span_corruption.gin"], bindings, (), precompile.DATA_OVERRIDES
  )
  config = precompile.without_data(settings.build(train_config.TrainConfig))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    dataset = config.dataset(
      architecture="encoder_decoder", batch_size=8, seed=0, process_index=0, process_count=4
    )
  shapes = {name: x.shape for name, x in dataset.feature_shapes.items()}
  assert shapes["encoder_input_tokens"] == (8, 512)
  assert shapes["decoder_target_tokens"] == (8, 114)
  assert dataset.vocab_size == 32128
  assert not (tmp_path / "untouched").exists()


def test_batches_that_read_no_data_stay_as_they_are():
  config = step_cases.make("tiny", step_cases.DECODER_1B, 2, targets=8).config
  assert precompile.without_data(config) is config
