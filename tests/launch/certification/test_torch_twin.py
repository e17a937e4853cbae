"""The twin's schedule, against that of the gin files."""

import jax.numpy as jnp
import pytest

from launch.certification import torch_twin
from launch.configuration import reader
from t5x_style.training import train_config


@pytest.mark.parametrize("name", torch_twin.MODEL_TYPES)
def test_learning_rates_are_those_of_the_gin_file(name):
  given = ["CORPUS_FILES = 'a'", "VALIDATION_FILES = 'b'", "MODEL_DIR = 'c'"]
  config = reader.read([f"certificate/twin_{name}.gin"], given).build(train_config.TrainConfig)
  assert config.train_steps == torch_twin.STEPS and config.model.dropout_rate == 0
  for step in (0, 1, 49, 50, 51, 200, 499):
    found = torch_twin.learning_rate(step)
    assert found == pytest.approx(float(config.schedule(jnp.int32(step))), rel=1e-5, abs=1e-12)
