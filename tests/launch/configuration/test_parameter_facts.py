"""What the code says of a parameter."""

import dataclasses
from pathlib import Path

from launch.configuration import parameter_facts
from launch.configuration.gin_names import Target
from t5x_style.setting_types import NonNegativeInt, OpenFraction
from t5x_style.training import train_config


@dataclasses.dataclass
class _Parent:
  """A parent.

  Attributes:
    first, second: two of them.
  """

  first: NonNegativeInt = 1
  second: OpenFraction | None = None


@dataclasses.dataclass
class _Child(_Parent):
  third: bool = False  # its own


def test_fields_of_a_parent_class():
  target = Target(_Child, __name__, "_Child")
  about = parameter_facts.documentation(target)
  assert about["first"] == about["second"] == "two of them."
  assert about["third"] == "its own"
  assert parameter_facts.kind(target, "first") == "a whole number from 0"
  line = parameter_facts.place_in_code(target, "second")[1]
  assert "second: OpenFraction" in Path(__file__).read_text().splitlines()[line - 1]


def test_training_settings_are_all_explained():
  target = Target(train_config.TrainConfig, train_config.__name__, "TrainConfig")
  assert set(parameter_facts.documentation(target)) >= {"model", "stages", "roll_back"}
