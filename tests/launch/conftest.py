"""A module for gin to configure, and shipped gin files that configure it."""

import os
import sys
import textwrap
from unittest import mock

import pytest

from launch.configuration import gin_files

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


@pytest.fixture(autouse=True)
def own_environment():
  """Commands set variables of their process; here they end with the test."""
  with mock.patch.dict(os.environ):
    yield


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
  _write(shipped, SHIPPED)
  monkeypatch.setattr(gin_files, "SHIPPED", shipped)
  (tmp_path / "work").mkdir()
  monkeypatch.chdir(tmp_path / "work")
  return tmp_path / "work"


def _write(folder, files):
  for name, text in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(textwrap.dedent(text).strip() + "\n")


@pytest.fixture
def write():
  """(folder, {name: text}) -> files."""
  return _write
