"""The shipped comparisons are read, and the runs of all their candidates can be built."""

from pathlib import Path

import pytest

from launch.comparison import arguments, gin_settings
from launch.configuration import reader
from launch.process.errors import ConfigurationError
from t5x_style.training import train_config

FOLDER = Path(__file__).parents[3] / "gin_configs"
SHIPPED = ["compare.gin", *(f"ablations/{x.name}" for x in (FOLDER / "ablations").glob("*.gin"))]


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_shipped_comparisons(name):
  given = arguments.Given((name,), ("BATCH_SIZE = 4",))
  comparison = gin_settings.read(given)
  assert f"--gin_file={name}" in (FOLDER / name).read_text()
  assert len(comparison.candidates) > 1 and len(comparison.seeds) == 3
  models = []
  for candidate in comparison.candidates:
    own = arguments.of_run(given, comparison, candidate, {"MODEL_DIR": "/nowhere"})
    config = reader.read(own.gin_files, own.bindings).build(train_config.TrainConfig)
    assert (config.batch_size, config.model.scan_layers) == (4, False)
    models.append(config.model)
  if name != "compare.gin":  # What is compared is not the size.
    assert len({x.emb_dim for x in models}) == 1


def test_values_of_the_wrong_kind_are_refused(tmp_path):
  (tmp_path / "my.gin").write_text("include 'compare.gin'\nSEEDS = ('a',)\n")
  with pytest.raises(
    ConfigurationError, match=r"SEEDS = \('a',\) should.* \(for Comparison.seeds\)"
  ):
    gin_settings.read(arguments.Given((str(tmp_path / "my.gin"),), ()))
