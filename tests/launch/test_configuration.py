"""gin files and command-line bindings: what they configure, and what the errors say."""

import os
import subprocess
import sys
import textwrap

import pytest

from launch import configuration, gin_files
from launch.mistakes import ConfigurationError

KITCHEN = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Oven:
  degrees: int
  fan: bool = False

@dataclasses.dataclass(frozen=True)
class Meal:
  oven: Oven
  minutes: int
  dishes: tuple = ()
  place: str = "kitchen"
  season: object = None
  weights: dict = dataclasses.field(default_factory=dict)

def season(food, salt=1.0, pepper=0.5):
  return (food, salt, pepper)

colour = "white"
"""

SHIPPED = {
  "dinner.gin": """
    from __gin__ import dynamic_registration
    from restaurant import kitchen
    include 'ovens/hot.gin'
    MINUTES = 30
    PLACE = 'hall'
    kitchen.Meal.oven = %OVEN
    kitchen.Meal.minutes = %MINUTES
    kitchen.Meal.place = %PLACE
    kitchen.Meal.season = @kitchen.season
    kitchen.season.salt = 2.5
  """,
  "ovens/hot.gin": """
    from __gin__ import dynamic_registration
    from restaurant import kitchen
    OVEN = @kitchen.Oven()
    kitchen.Oven.degrees = 250
  """,
  "ovens/mild.gin": """
    from __gin__ import dynamic_registration
    import restaurant.kitchen as stove
    OVEN = @stove.Oven()
    stove.Oven:
      degrees = 120
      fan = True
  """,
}


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory):
  """A module for gin to configure; gin registers a name once per process."""
  folder = tmp_path_factory.mktemp("modules")
  (folder / "restaurant").mkdir()
  (folder / "restaurant/__init__.py").write_text("")
  (folder / "restaurant/kitchen.py").write_text(KITCHEN)
  sys.path.insert(0, str(folder))
  from restaurant import kitchen

  yield kitchen
  sys.path.remove(str(folder))


@pytest.fixture
def workdir(tmp_path, monkeypatch, kitchen):
  """An empty working directory, and a folder of shipped gin files elsewhere."""
  shipped = tmp_path / "site" / "gin_configs"
  write(shipped, SHIPPED)
  monkeypatch.setattr(gin_files, "SHIPPED", shipped)
  (tmp_path / "work").mkdir()
  monkeypatch.chdir(tmp_path / "work")
  return tmp_path / "work"


def write(folder, files):
  for name, text in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(textwrap.dedent(text).strip() + "\n")


def error(*gin_files, bindings=(), search_paths=()):
  with pytest.raises(ConfigurationError) as caught:
    configuration.read(gin_files, bindings, search_paths)
  return str(caught.value)


PREFACE = "from __gin__ import dynamic_registration\nfrom restaurant import kitchen\n"


def test_builds_what_the_files_say(workdir, kitchen):
  meal = configuration.read(["dinner.gin"]).build(kitchen.Meal)
  assert meal.oven == kitchen.Oven(250, False)
  assert (meal.minutes, meal.place) == (30, "hall")
  assert meal.season("soup") == ("soup", 2.5, 0.5)


@pytest.mark.parametrize("name", ["dinner.gin", "gin_configs/dinner.gin", "absolute"])
def test_finds_shipped_files_from_any_directory(workdir, kitchen, name):
  if name == "absolute":
    name = str(gin_files.SHIPPED / "dinner.gin")
  assert configuration.read([name]).build(kitchen.Meal).minutes == 30


def test_the_working_directory_comes_before_search_paths_and_those_before_shipped_files(
  workdir, kitchen
):
  write(workdir, {"elsewhere/dinner.gin": "include 'ovens/mild.gin'"})
  assert configuration.read(["dinner.gin"], search_paths=["elsewhere"]).build(kitchen.Oven).fan
  write(workdir, {"dinner.gin": "include 'ovens/hot.gin'"})
  oven = configuration.read(["dinner.gin"], search_paths=["elsewhere"]).build(kitchen.Oven)
  assert oven == kitchen.Oven(250)


def test_an_include_is_found_beside_the_file_that_includes_it(workdir, kitchen):
  write(workdir, {"deep/mine.gin": "include 'part.gin'", "deep/part.gin": "include 'dinner.gin'"})
  assert configuration.read(["deep/mine.gin"]).build(kitchen.Meal).minutes == 30


def test_later_files_and_the_command_line_override(workdir, kitchen):
  write(workdir, {"long.gin": "MINUTES = 90"})
  read = configuration.read(["dinner.gin", "ovens/mild.gin", "long.gin"])
  assert read.build(kitchen.Meal).minutes == 90
  assert read.build(kitchen.Meal).oven == kitchen.Oven(120, True)
  read = configuration.read(["dinner.gin", "long.gin"], ["MINUTES = 5"])
  assert read.build(kitchen.Meal).minutes == 5


@pytest.mark.parametrize(
  "name", ["kitchen.Meal.minutes", "Meal.minutes", "restaurant.kitchen.Meal.minutes"]
)
def test_dotted_bindings_on_the_command_line(workdir, kitchen, name):
  assert configuration.read(["dinner.gin"], [f"{name}=7"]).build(kitchen.Meal).minutes == 7


def test_macros_on_the_command_line_may_stand_for_macros_and_references(workdir, kitchen):
  read = configuration.read(
    ["dinner.gin"],
    ["HOUR=60", "MINUTES=%HOUR", "OVEN=@cold/kitchen.Oven()", "cold/Oven.degrees=80"],
  )
  assert read.build(kitchen.Meal).oven.degrees == 80
  assert read.macro("MINUTES") == 60
  assert read.macro("HOURS", "none") == "none"


@pytest.mark.parametrize("value", ["/tmp/x", "'/tmp/x'", '"/tmp/x"', "gs://bucket/x-1", "garden"])
def test_a_string_macro_needs_no_inner_quotes(workdir, kitchen, value):
  meal = configuration.read(["dinner.gin"], [f"PLACE={value}"]).build(kitchen.Meal)
  assert meal.place == value.strip("\"'")


def test_overrides_apply_where_the_module_is_used(workdir, kitchen):
  overrides = {"restaurant.kitchen.Oven.degrees": 99, "other.module.Thing.x": 1}
  assert configuration.read(["dinner.gin"], overrides=overrides).build(kitchen.Oven).degrees == 99


# ---- Errors


def test_no_gin_file(workdir):
  assert error() == (
    "No configuration is given. Start with --gin_file=quickstart.gin; there are dinner.gin."
  )


def test_missing_gin_file(workdir):
  assert error("diner.gin") == (
    "There is no gin file 'diner.gin'. Did you mean 'dinner.gin'?"
    f"\n  Looked in {workdir}, {gin_files.SHIPPED}."
  )
  assert "Did you mean 'ovens/hot.gin'?" in error("hot.gin")
  assert "Shipped are dinner.gin, ovens/hot.gin, ovens/mild.gin." in error("xyzzy.gin")


def test_missing_include(workdir):
  write(workdir, {"mine.gin": "include 'dinner.gin'\n\ninclude 'ovens/hat.gin'"})
  assert error("mine.gin") == (
    "There is no gin file 'ovens/hat.gin'. Did you mean 'ovens/hot.gin'?"
    "\n  mine.gin:3: include 'ovens/hat.gin'"
    f"\n  Looked in {workdir}, {gin_files.SHIPPED}."
  )


def test_includes_in_a_circle(workdir):
  write(workdir, {"a.gin": "include 'b.gin'", "b.gin": "include 'a.gin'"})
  assert error("a.gin") == "Gin files include each other: a.gin -> b.gin -> a.gin."


def test_misspelt_macro_on_the_command_line(workdir):
  assert error("dinner.gin", bindings=["MINTUES=3"]) == (
    "The gin files use no macro MINTUES. Did you mean 'MINUTES'?\n  command line: --gin.MINTUES=3"
  )
  assert error("dinner.gin", bindings=["WINE=3"]) == (
    "The gin files use no macro WINE. They use MINUTES, OVEN, PLACE.\n  command line: --gin.WINE=3"
  )


def test_misspelt_macro_in_a_file(workdir):
  write(workdir, {"mine.gin": "include 'dinner.gin'\nMINTUES = 3"})
  assert error("mine.gin") == (
    "MINTUES is set, but nothing uses it. Did you mean MINUTES?\n  mine.gin:2: MINTUES = 3"
  )
  write(workdir, {"mine.gin": "include 'dinner.gin'\nWINE = 3"})
  configuration.read(["mine.gin"])  # A file may offer more than is used.


def test_misspelt_macro_in_use(workdir):
  write(workdir, {"mine.gin": f"{PREFACE}MINUTES = 3\nkitchen.Meal.minutes = %MINTUES"})
  assert error("mine.gin") == (
    "MINTUES is not set; MINUTES is set and not used: did you mean that?"
    "\n  mine.gin:4: kitchen.Meal.minutes = %MINTUES"
  )


def test_macro_that_another_file_sets(workdir):
  write(workdir, {"mine.gin": f"{PREFACE}kitchen.Meal.oven = %OVEN\nkitchen.Meal.minutes = 1"})
  assert error("mine.gin") == (
    "OVEN is not set. Include one of ovens/hot.gin, ovens/mild.gin, or set it: --gin.OVEN=..."
    "\n  mine.gin:3: kitchen.Meal.oven = %OVEN"
  )


def test_macro_marked_as_required(workdir):
  write(workdir, {"mine.gin": "include 'dinner.gin'\nMINUTES = %gin.REQUIRED"})
  assert "MINUTES is not set" in error("mine.gin")
  configuration.read(["mine.gin"], ["MINUTES=3"])


def test_misspelt_parameter(workdir):
  write(workdir, {"mine.gin": f"{PREFACE}kitchen.Oven.degrees = 1\nkitchen.Oven.degreees = 2"})
  assert error("mine.gin") == (
    "Oven has no parameter 'degreees'. Did you mean 'degrees'?"
    "\n  mine.gin:4: kitchen.Oven.degreees = 2"
  )
  write(workdir, {"mine.gin": f"{PREFACE}\nkitchen.Oven:\n  degrees = 1\n  wood = 3"})
  assert error("mine.gin") == (
    "Oven has no parameter 'wood'. It has degrees, fan.\n  mine.gin:6: wood = 3"
  )


def test_misspelt_class(workdir):
  write(workdir, {"mine.gin": f"{PREFACE}X = @kitchen.Ovne()"})
  assert error("mine.gin") == (
    "The module restaurant.kitchen has no 'Ovne'. Did you mean 'Oven'?"
    "\n  mine.gin:3: X = @kitchen.Ovne()"
  )
  write(workdir, {"mine.gin": f"{PREFACE}kitchen.colour.x = 1"})
  assert "kitchen.colour is neither a function nor a class" in error("mine.gin")


def test_misspelt_module(workdir):
  write(workdir, {"mine.gin": "from restaurant import kitchn"})
  assert error("mine.gin") == (
    "restaurant has no module 'kitchn'. Did you mean 'kitchen'?"
    "\n  mine.gin:1: from restaurant import kitchn"
  )
  write(workdir, {"mine.gin": "import restaurants.kitchen"})
  assert "There is no Python module 'restaurants.kitchen'." in error("mine.gin")


def test_import_of_a_class(workdir):
  write(workdir, {"mine.gin": "from restaurant.kitchen import Oven"})
  assert error("mine.gin") == (
    "gin imports modules, and Oven is something inside the module restaurant.kitchen: write "
    "`from restaurant import kitchen` and use kitchen.Oven."
    "\n  mine.gin:1: from restaurant.kitchen import Oven"
  )


def test_name_that_is_not_imported(workdir):
  write(workdir, {"mine.gin": f"{PREFACE}kitchn.Oven.degrees = 3"})
  message = error("mine.gin")
  assert message.startswith("This file imports nothing called 'kitchn'. Did you mean 'kitchen'?")
  assert message.endswith("\n  mine.gin:3: kitchn.Oven.degrees = 3")


def test_misspelt_name_on_the_command_line(workdir):
  assert error("dinner.gin", bindings=["Ovne.degrees=3"]) == (
    "The gin files bind nothing called 'Ovne'. Did you mean 'Oven'?"
    "\n  command line: --gin.Ovne.degrees=3"
  )


def test_syntax_error(workdir):
  write(workdir, {"mine.gin": "A = 3\nB = [1, 2\nC = 4"})
  assert error("mine.gin").startswith("gin syntax: ")
  assert "mine.gin:" in error("mine.gin")
  write(workdir, {"mine.gin": "A = 3\nB 4"})
  assert error("mine.gin").endswith("\n  mine.gin:2: B 4")
  write(workdir, {"mine.gin": "A = 3\nB = kitchen"})
  assert error("mine.gin").endswith("\n  mine.gin:2: B = kitchen")


def test_unquoted_string_for_something_that_is_not_a_string(workdir):
  message = error("dinner.gin", bindings=["MINUTES=long"])
  assert message.startswith("gin cannot read the value long; a string is written --gin.MINUTES=")
  assert "--gin.MINUTES=\"'text'\"." in message
  assert "Did you mean 'True'?" in error("dinner.gin", bindings=["MINUTES=Ture"])


def test_binding_without_a_value(workdir):
  assert error("dinner.gin", bindings=["MINUTES"]) == (
    "--gin.MINUTES sets nothing; write --gin.NAME=value."
  )


def test_required_parameter_left_unbound(workdir, kitchen):
  write(workdir, {"mine.gin": f"{PREFACE}kitchen.Meal.oven = @kitchen.Oven()"})
  assert error("mine.gin") == (
    "Oven needs degrees, which nothing sets; bind Oven.degrees, or include one of ovens/hot.gin."
    "\n  mine.gin:3: kitchen.Meal.oven = @kitchen.Oven()"
  )
  write(workdir, {"mine.gin": f"{PREFACE}kitchen.Meal.oven = 3"})
  with pytest.raises(ConfigurationError, match="Meal needs minutes, which nothing sets"):
    configuration.read(["mine.gin"]).build(kitchen.Meal)


def test_class_the_files_say_nothing_about(workdir, kitchen):
  with pytest.raises(ConfigurationError) as caught:
    configuration.read(["ovens/hot.gin"]).build(kitchen.Meal)
  assert str(caught.value) == (
    "The gin files say nothing about Meal of restaurant.kitchen. "
    "Include one of dinner.gin, or give it with --gin_file."
  )


# ---- The operative configuration

PLAIN_GIN = """
import sys
import gin
gin.parse_config_file(sys.argv[1])
from restaurant import kitchen
print(gin.get_configurable(kitchen.Meal)())
"""


def test_the_run_can_be_repeated_from_its_operative_configuration(workdir, kitchen, tmp_path):
  write(workdir, {"extra.gin": f"{PREFACE}kitchen.Meal.weights = {{'a': 1e-5, 'b': [1, (2,)]}}"})
  read = configuration.read(
    ["dinner.gin", "extra.gin"],
    ["MINUTES=3", "Meal.dishes=('soup', 'a \"quoted\" name', None, -1.5)", "PLACE=/x/y"],
  )
  meal = read.build(kitchen.Meal)
  seasoned = meal.season("soup")
  text = read.operative()
  (tmp_path / "away").mkdir()
  os.chdir(tmp_path / "away")
  (tmp_path / "away/config.gin").write_text(text)
  again = configuration.read(["config.gin"])
  repeated = again.build(kitchen.Meal)
  fields = ("oven", "minutes", "dishes", "place", "weights")
  assert [getattr(repeated, f) for f in fields] == [getattr(meal, f) for f in fields]
  assert repeated.season("soup") == seasoned == ("soup", 2.5, 0.5)
  # What it says of itself the second time is the same but for the places.
  assert bare(again.operative()) == bare(text)
  # It is plain gin: gin alone, in another process, reads the same from it.
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
  read = configuration.read(["dinner.gin"], ["MINUTES=3"])
  assert "fan" not in read.operative()  # Nothing has been called.
  read.build(kitchen.Meal)
  text = read.operative()
  assert "include" not in text
  assert "MINUTES = 3  # command line\n" in text
  assert "kitchen.Oven.degrees = 250  # gin_configs/ovens/hot.gin:4\n" in text
  assert "kitchen.Oven.fan = False  # default\n" in text
  assert "kitchen.season.salt = 2.5" in text  # Bound, though not called yet.


def test_an_operative_configuration_can_be_overridden_again(workdir, kitchen):
  read = configuration.read(["dinner.gin"])
  read.build(kitchen.Meal)
  (workdir / "config.gin").write_text(read.operative())
  again = configuration.read(["config.gin"], ["MINUTES=4", "Oven.fan=True", "PLACE=yard"])
  meal = again.build(kitchen.Meal)
  assert (meal.minutes, meal.oven.fan, meal.place) == (4, True, "yard")


def test_bindings_in_scopes_survive(workdir, kitchen):
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
  read = configuration.read(["mine.gin"])
  meal = read.build(kitchen.Meal)
  assert [meal.oven, *meal.dishes] == [kitchen.Oven(1), kitchen.Oven(2, True), kitchen.Oven(3)]
  (workdir / "config.gin").write_text(read.operative())
  assert configuration.read(["config.gin"]).build(kitchen.Meal) == meal


def test_modules_of_the_same_name_are_told_apart(workdir, kitchen):
  write(
    workdir,
    {
      "mine.gin": f"{PREFACE}include 'dinner.gin'\ninclude 'other.gin'",
      "other.gin": "from multiprocessing import dummy as kitchen\nX = @kitchen.Pool",
    },
  )
  text = configuration.read(["mine.gin"]).operative()
  assert "from restaurant import kitchen\n" in text
  assert "from multiprocessing import dummy\n" in text
  assert "X = @dummy.Pool" in text
