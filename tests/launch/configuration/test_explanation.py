"""What --explain says: where each value was written, what it replaced, what it does."""

from pathlib import Path

import pytest

from launch.configuration import explanation, gin_files, reader
from t5x_style.models import config

PREFACE = "from __gin__ import dynamic_registration\nfrom restaurant import kitchen\n"


@pytest.fixture
def explained(workdir, write):
  """(gin text, bindings) -> {name: Setting} of the macros, of the parameters, of the defaults."""

  def explain(text, bindings=()):
    write(workdir, {"mine.gin": PREFACE + text})
    read = reader.read(["mine.gin"], bindings)
    kinds = (explanation.macros, explanation.parameters, explanation.defaults)
    return [{setting.name: setting for setting in kind(read)} for kind in kinds]

  return explain


def places(setting):
  return [str(setting.location), *(f"{value} {place}" for value, place in setting.earlier)]


def test_every_place_that_sets_a_macro_is_named_the_newest_first(explained):
  macros, _, _ = explained(
    "include 'dinner.gin'\nMINUTES = 45  # slow food\n", ["MINUTES = 50", "PLACE = 'yard'"]
  )
  assert macros["MINUTES"].value == "50"
  assert places(macros["MINUTES"]) == [
    "command line",
    "45 mine.gin:4",
    "30 gin_configs/dinner.gin:4",
  ]
  assert macros["MINUTES"].about == "slow food"
  assert macros["MINUTES"].parameters == ("restaurant.kitchen.Meal.minutes",)
  assert places(macros["PLACE"]) == ["command line", "'hall' gin_configs/dinner.gin:5"]
  assert macros["OVEN"].value == "@kitchen.Oven()"


def test_parameters_with_values_of_their_own_and_scopes(explained):
  _, parameters, _ = explained(
    "include 'ovens/hot.gin'\n"
    "kitchen.Meal.oven = %OVEN\n"
    "kitchen.Oven.degrees = 90  # for meringue\n"
    "small/kitchen.Oven.degrees = 60\n"
    "kitchen.Meal.season = [@small/kitchen.Oven()]\n"
  )
  assert places(parameters["kitchen.Oven.degrees"]) == [
    "mine.gin:5",
    "250 gin_configs/ovens/hot.gin:4",
  ]
  assert parameters["kitchen.Oven.degrees"].about == "for meringue"
  assert parameters["small/kitchen.Oven.degrees"].value == "60"
  assert parameters["kitchen.Meal.season"].value == "[@small/kitchen.Oven()]"
  assert "kitchen.Meal.oven" not in parameters  # The macro says it.


def test_defaults_are_those_that_nothing_sets_with_the_line_of_the_code(explained, kitchen):
  _, _, defaults = explained("kitchen.season.salt = 2.0")
  assert set(defaults) == {"kitchen.season.pepper"}
  file, line = defaults["kitchen.season.pepper"].location[:2]
  assert "pepper=0.5" in Path(kitchen.__file__).read_text().splitlines()[line - 1]
  assert Path(file).name == "kitchen.py"


def test_the_type_and_the_documentation_are_those_of_the_code():
  read = reader.read(["quickstart.gin"])
  macros = {setting.name: setting for setting in explanation.macros(read)}
  assert macros["MAX_FAILED_SAVES"].kind == "a whole number above 0"
  assert macros["LAYER_DECAY"].kind == "a number above 0 below 1 or None"
  assert macros["REMAT"].kind == "one of 'none', 'dots', 'full'"
  assert macros["LABEL_SMOOTHING"].about == "probability spread over the vocabulary"
  # A comment of a gin file, then the docstring: two sentences.
  assert ". The share of the rows that come from" in macros["REPLAY_SHARE"].about
  assert macros["SAVE_PERIOD"].t5x == "SaveCheckpointConfig.period"
  defaults = {setting.name: setting for setting in explanation.defaults(read)}
  # A comment at the end of the line of a field, and one in the lines above it.
  kv_heads = defaults["config.TransformerConfig.num_kv_heads"]
  assert kv_heads.about == "None: the same as num_heads (no grouping)."
  assert "this many of these deviations" in defaults["config.TransformerConfig.init_cutoff"].about
  file, line = kv_heads.location[:2]
  assert file == "t5x_style/models/config.py"
  assert "num_kv_heads:" in Path(config.__file__).read_text().splitlines()[line - 1]


def test_the_text_fits_a_narrow_terminal():
  shown = explanation.text(reader.read(["quickstart.gin"]), width=60)
  long = [line for line in shown.splitlines() if len(line) > 60]
  assert all(" " not in line.strip() for line in long)  # Only names that cannot be broken.
  assert "BATCH_SIZE = 32\n    gin_configs/quickstart.gin:11\n    instead of 16, " in shown


def test_every_macro_of_the_shipped_runs_says_what_it_does():
  runs = [name for name in gin_files.shipped_files("MODEL_DIR = ") if "/" not in name]
  assert len(runs) >= 6
  silent = {
    setting.name
    for name in runs
    for setting in explanation.macros(reader.read([name]))
    if not setting.about
  }
  assert silent == set()
