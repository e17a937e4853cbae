"""Measured values survive a file."""

import json

from t5x_style.comparison.measures import MEASURES, Measured


def test_a_value_survives_json():
  value = Measured(0.5, method="A sentence.", standard_error=0.1, count=25)
  assert Measured.of_json(json.loads(json.dumps(value.as_json()))) == value


def test_chance_is_only_of_what_ranks():
  assert {x.better for x in MEASURES.values() if x.chance is not None} == {"higher"}
