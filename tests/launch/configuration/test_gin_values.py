"""Values of gin files whose modules are not imported."""

import pytest

from launch.configuration.gin_values import Function, GinValues
from launch.process.errors import ConfigurationError

PREFACE = "from __gin__ import dynamic_registration\nfrom restaurant import kitchen\n"
OVEN = "restaurant.kitchen.Oven"


def values(workdir, text, bindings=()):
  (workdir / "mine.gin").write_text(PREFACE + text)
  return GinValues(["mine.gin"], bindings)


def test_macros_stand_for_values(workdir):
  read = values(workdir, "A = [%B, @kitchen.Oven]\nB = 2\nC = @kitchen.season()")
  assert read.macro("A") == [2, Function(OVEN)]
  assert read.macro("C") == Function("restaurant.kitchen.season")
  assert read.macro("D", 5) == 5
  with pytest.raises(ConfigurationError, match="E is not set. Set it: --gin.E=..."):
    values(workdir, "A = %E").macro("A")


def test_a_macro_that_needs_its_own_value(workdir):
  with pytest.raises(ConfigurationError, match="%A needs its own value: %A -> %B -> %A"):
    values(workdir, "A = %B\nB = %A").macro("A")


def test_values_are_checked_against_annotations(workdir, kitchen):
  read = values(workdir, "C = '3'\nkitchen.Oven.degrees = %C")
  assert read.parameters(OVEN) == {"degrees": "3"}
  with pytest.raises(ConfigurationError, match="^C = '3' should be a whole number") as error:
    read.parameters(OVEN, kitchen.Oven)
  first, second = str(error.value).splitlines()
  assert first.endswith("(for Oven.degrees).") and second.endswith(":3: C = '3'")
  read = values(workdir, "kitchen.Oven.degrees = 2.5")
  with pytest.raises(ConfigurationError, match="^Oven.degrees = 2.5 should be a whole number"):
    read.parameters(OVEN, kitchen.Oven)


def test_scopes_and_classes_of_the_same_name_are_told_apart(workdir):
  read = values(
    workdir,
    "import another.kitchen as mine\nkitchen.Oven.degrees = 1\nsmall/kitchen.Oven.degrees = 2\n"
    "mine.Oven.degrees = 3",
  )
  assert read.parameters(OVEN) == {"degrees": 1}
  assert read.parameters("another.kitchen.Oven") == {"degrees": 3}


@pytest.mark.parametrize("name", ["Oven", "kitchen.Oven", OVEN])
def test_the_command_line_may_shorten_a_name(workdir, name):
  read = values(workdir, "kitchen.Oven.fan = True", [f"{name}.degrees = 4"])
  assert read.parameters(OVEN) == {"fan": True, "degrees": 4}


def test_a_class_may_be_named_as_a_package_exports_it(workdir):
  read = values(workdir, "import restaurant\nrestaurant.Oven.degrees = 5")
  assert read.parameters(OVEN) == {"degrees": 5}
