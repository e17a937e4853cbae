"""Gin files and bindings: what they configure, and the gin text that repeats a run."""

import os
import subprocess
import sys

import pytest

from launch.configuration import gin_files, reader

PREFACE = "from __gin__ import dynamic_registration\nfrom restaurant import kitchen\n"


def test_builds_what_the_files_say(workdir, kitchen):
  meal = reader.read(["dinner.gin"]).build(kitchen.Meal)
  assert meal.oven == kitchen.Oven(250, False)
  assert (meal.minutes, meal.place) == (30, "hall")
  assert meal.season("soup") == ("soup", 2.5, 0.5)


@pytest.mark.parametrize("name", ["dinner.gin", "gin_configs/dinner.gin", "absolute"])
def test_finds_shipped_files_from_any_directory(workdir, kitchen, name):
  if name == "absolute":
    name = str(gin_files.SHIPPED / "dinner.gin")
  assert reader.read([name]).build(kitchen.Meal).minutes == 30


def test_the_working_directory_comes_before_search_paths_and_those_before_shipped_files(
  workdir, write, kitchen
):
  write(workdir, {"elsewhere/dinner.gin": "include 'ovens/mild.gin'"})
  assert reader.read(["dinner.gin"], search_paths=["elsewhere"]).build(kitchen.Oven).fan
  write(workdir, {"dinner.gin": "include 'ovens/hot.gin'"})
  oven = reader.read(["dinner.gin"], search_paths=["elsewhere"]).build(kitchen.Oven)
  assert oven == kitchen.Oven(250)


def test_an_include_is_found_beside_the_file_that_includes_it(workdir, write, kitchen):
  write(workdir, {"deep/mine.gin": "include 'part.gin'", "deep/part.gin": "include 'dinner.gin'"})
  assert reader.read(["deep/mine.gin"]).build(kitchen.Meal).minutes == 30


def test_later_files_and_the_command_line_override(workdir, write, kitchen):
  write(workdir, {"long.gin": "MINUTES = 90"})
  read = reader.read(["dinner.gin", "ovens/mild.gin", "long.gin"])
  assert read.build(kitchen.Meal).minutes == 90
  assert read.build(kitchen.Meal).oven == kitchen.Oven(120, True)
  read = reader.read(["dinner.gin", "long.gin"], ["MINUTES = 5"])
  assert read.build(kitchen.Meal).minutes == 5


@pytest.mark.parametrize(
  "name", ["kitchen.Meal.minutes", "Meal.minutes", "restaurant.kitchen.Meal.minutes"]
)
def test_dotted_bindings_on_the_command_line(workdir, kitchen, name):
  assert reader.read(["dinner.gin"], [f"{name}=7"]).build(kitchen.Meal).minutes == 7


def test_macros_on_the_command_line_may_stand_for_macros_and_references(workdir, kitchen):
  read = reader.read(
    ["dinner.gin"],
    ["HOUR=60", "MINUTES=%HOUR", "OVEN=@cold/kitchen.Oven()", "cold/Oven.degrees=80"],
  )
  assert read.build(kitchen.Meal).oven.degrees == 80
  assert read.macro("MINUTES") == 60
  assert read.macro("HOURS", "none") == "none"


@pytest.mark.parametrize("value", ["/tmp/x", "'/tmp/x'", '"/tmp/x"', "gs://bucket/x-1", "garden"])
def test_a_string_macro_needs_no_inner_quotes(workdir, kitchen, value):
  meal = reader.read(["dinner.gin"], [f"PLACE={value}"]).build(kitchen.Meal)
  assert meal.place == value.strip("\"'")


def test_overrides_apply_where_the_module_is_used(workdir, kitchen):
  overrides = {"restaurant.kitchen.Oven.degrees": 99, "other.module.Thing.x": 1}
  assert reader.read(["dinner.gin"], overrides=overrides).build(kitchen.Oven).degrees == 99


def test_values_are_named_wherever_they_were_set(workdir, write, kitchen):
  """Files and the command line give equal values; defaults count once something was called."""
  read = reader.read(["dinner.gin"], ["MINUTES=3"])
  write(workdir, {"short.gin": "MINUTES = 3  # a comment"})
  assert read.values() == reader.read(["dinner.gin", "short.gin"]).values()
  read = reader.read(["dinner.gin"], ["MINUTES=3"])
  given = read.values()
  read.build(kitchen.Meal)
  assert (given["MINUTES"], given["restaurant.kitchen.Meal.minutes"]) == ("3", "%MINUTES")
  assert given["restaurant.kitchen.Meal.oven"] == "%OVEN"
  assert given["OVEN"].startswith("@") and "restaurant.kitchen.Oven()" in given["OVEN"]
  assert read.values().items() >= given.items()
  assert read.values()["restaurant.kitchen.Oven.fan"] == "False"


# ---- The operative configuration

PLAIN_GIN = """
import sys
import gin
gin.parse_config_file(sys.argv[1])
from restaurant import kitchen
print(gin.get_configurable(kitchen.Meal)())
"""


LONG = {f"key {i}": [1e-5 * i, (i,), {"text": "it's " * i}] for i in range(12)}


def test_the_run_can_be_repeated_from_its_operative_configuration(
  workdir, write, kitchen, tmp_path
):
  write(workdir, {"extra.gin": f"{PREFACE}kitchen.Meal.weights = {LONG!r}"})
  read = reader.read(
    ["dinner.gin", "extra.gin"],
    ["MINUTES=3", "Meal.dishes=('soup', 'a \"quoted\" name', None, -1.5)", "PLACE=/x/y"],
  )
  meal = read.build(kitchen.Meal)
  seasoned = meal.season("soup")
  text = read.operative()
  (tmp_path / "away").mkdir()
  os.chdir(tmp_path / "away")
  (tmp_path / "away/config.gin").write_text(text)
  again = reader.read(["config.gin"])
  repeated = again.build(kitchen.Meal)
  fields = ("oven", "minutes", "dishes", "place", "weights")
  assert [getattr(repeated, f) for f in fields] == [getattr(meal, f) for f in fields]
  assert repeated.season("soup") == seasoned == ("soup", 2.5, 0.5)
  # The configuration of the repeated run is the same, except for the places.
  assert bare(again.operative()) == bare(text)
  # It is ordinary gin: gin itself, in another process, reads the same values from it.
  path = os.pathsep.join(sys.path)
  done = subprocess.run(
    [sys.executable, "-c", PLAIN_GIN, "config.gin"],
    capture_output=True,
    text=True,
    timeout=60,
    env={**os.environ, "PYTHONPATH": path},
  )
  assert f"minutes=3, dishes={meal.dishes!r}" in done.stdout, done.stderr


def bare(text):
  return sorted(line.split("  # ")[0] for line in text.splitlines() if not line.startswith("#"))


def test_the_operative_configuration_holds_defaults_and_places_but_no_includes(workdir, kitchen):
  read = reader.read(["dinner.gin"], ["MINUTES=3"])
  assert "fan" not in read.operative()  # Nothing has been called.
  read.build(kitchen.Meal)
  text = read.operative()
  assert "include" not in text
  assert "MINUTES = 3  # command line\n" in text
  assert "kitchen.Oven.degrees = 250  # gin_configs/ovens/hot.gin:4\n" in text
  assert "kitchen.Oven.fan = False  # default\n" in text
  assert "kitchen.season.salt = 2.5" in text  # Bound, though not called yet.


def test_an_operative_configuration_can_be_overridden_again(workdir, kitchen):
  read = reader.read(["dinner.gin"])
  read.build(kitchen.Meal)
  (workdir / "config.gin").write_text(read.operative())
  again = reader.read(["config.gin"], ["MINUTES=4", "Oven.fan=True", "PLACE=yard"])
  meal = again.build(kitchen.Meal)
  assert (meal.minutes, meal.oven.fan, meal.place) == (4, True, "yard")


def test_bindings_in_scopes_survive(workdir, write, kitchen):
  write(
    workdir,
    {
      "mine.gin": f"""
{PREFACE}
kitchen.Meal.oven = @summer/kitchen.Oven()
kitchen.Meal.dishes = (@winter/kitchen.Oven(), @kitchen.Oven())
kitchen.Meal.minutes = 1
summer/kitchen.Oven.degrees = 1
winter/kitchen.Oven.degrees = 2
winter/kitchen.Oven.fan = True
kitchen.Oven.degrees = 3
"""
    },
  )
  read = reader.read(["mine.gin"])
  meal = read.build(kitchen.Meal)
  assert [meal.oven, *meal.dishes] == [kitchen.Oven(1), kitchen.Oven(2, True), kitchen.Oven(3)]
  (workdir / "config.gin").write_text(read.operative())
  assert reader.read(["config.gin"]).build(kitchen.Meal) == meal


def test_modules_of_the_same_name_are_told_apart(workdir, write, kitchen):
  write(
    workdir,
    {
      "mine.gin": f"{PREFACE}include 'dinner.gin'\ninclude 'other.gin'",
      "other.gin": "from multiprocessing import dummy as kitchen\nX = @kitchen.Pool",
    },
  )
  text = reader.read(["mine.gin"]).operative()
  assert "from restaurant import kitchen\n" in text
  assert "from multiprocessing import dummy\n" in text
  assert "X = @dummy.Pool" in text
