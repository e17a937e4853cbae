"""T5X's names of settings: what stands for each exists."""

import importlib

import pytest

from launch.configuration import gin_references, t5x_names
from launch.configuration.gin_files import shipped_files

MODULES = {"config": "t5x_style.models.config", "optimizers": "t5x_style.training.optimizers"}


@pytest.mark.parametrize("name", sorted(set(t5x_names.RENAMED.values())))
def test_what_stands_for_a_name_of_t5x_exists(name):
  module, *rest = name.split(".")
  if not rest:
    assert shipped_files(rf"{name} = ")
    return
  target, parameter = rest
  target = getattr(importlib.import_module(MODULES[module]), target)
  assert parameter in gin_references.annotations(target)


def test_the_first_name_is_the_one_that_is_shown():
  assert t5x_names.of("BATCH_SIZE") == "BATCH_SIZE"
  assert t5x_names.of("SAVE_PERIOD") == "SaveCheckpointConfig.period"
  assert t5x_names.of("config.TransformerConfig.emb_dim") == "T5Config.emb_dim"
  assert t5x_names.of("HANG_MINUTES") == ""
