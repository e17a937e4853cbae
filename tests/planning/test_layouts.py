"""Layouts and the settings that make them."""

import dataclasses

from t5x_style.planning import layouts
from tests.planning.small_run import a_config, a_layout, a_planner


def test_settings_that_differ_make_the_other_layout(tmp_path):
  plan = a_planner(tmp_path)
  one = a_layout(plan, "none", data=16)
  other = dataclasses.replace(a_layout(plan, "full", 4, data=2, fsdp=8), batch_size=32)
  assert layouts.settings_that_differ(one, one) == {}
  assert layouts.settings_that_differ(one, other) == {
    "remat": "REMAT = 'full'",
    "microbatches": "NUM_MICROBATCHES = 4",
    "mesh": "MESH_SHAPE = {'data': 2, 'fsdp': 8}",
    "batch": "BATCH_SIZE = 32",
  }


def test_a_configuration_takes_a_layout(tmp_path):
  plan = a_planner(tmp_path)
  layout = a_layout(plan, "dots", 2, data=4, tensor=4)
  config = layouts.with_layout(a_config(tmp_path), layout)
  assert layouts.layout_of_config(config, plan.dataset, config.mesh_shape) == layout
  assert layout.rows() == 64 / 4 / 2
