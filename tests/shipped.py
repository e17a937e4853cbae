"""The optimizers, schedules and objectives of the package, for tests that try each of them.

They are found in the code and in gin_configs/: what is added there is tested without a line here.
"""

import re
from pathlib import Path

from t5x_style.data.objectives.base import Objective, known

GIN_FILES = Path(__file__).parents[1] / "gin_configs"


def recipes(kind: str) -> list[str]:
  """Returns the names of the gin files of runs/optimizers ("optimizers") or runs/schedules."""
  return sorted(path.stem for path in (GIN_FILES / "runs" / kind).glob("*.gin"))


OPTIMIZERS, SCHEDULES = recipes("optimizers"), recipes("schedules")


def peak_learning_rate(optimizer: str) -> float:
  """Returns the PEAK_LEARNING_RATE that the gin file of an optimizer writes."""
  text = (GIN_FILES / "runs" / "optimizers" / f"{optimizer}.gin").read_text()
  found = re.search(r"^PEAK_LEARNING_RATE = ([\d.e-]+)", text, re.MULTILINE)
  assert found, f"gin_configs/runs/optimizers/{optimizer}.gin sets no PEAK_LEARNING_RATE"
  return float(found[1])


def objectives() -> list[type[Objective]]:
  """Returns the classes of t5x_style/data/objectives/ that a gin file may bind, by their names."""
  room = "t5x_style.data.objectives."
  found = [one for one in known() if one.name and one.__module__.startswith(room)]
  return sorted(found, key=lambda one: one.name)
