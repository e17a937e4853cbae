"""Configurations that leave the size of the run open: MINUTES or FLOPS stand for it."""

from ..process.errors import ConfigurationError
from .reader import Configuration

BUDGETS = ("MINUTES", "FLOPS")


def given(settings: Configuration) -> str:
  """Returns the budget that a size has to be chosen for, such as "MINUTES = 15"; "" if none."""
  found = {name: settings.macro(name) for name in BUDGETS}
  return next((f"{name} = {value:g}" for name, value in found.items() if value is not None), "")


def refuse(settings: Configuration) -> None:
  """Raises ConfigurationError if a configuration leaves its size to MINUTES or FLOPS."""
  if budget := given(settings):
    raise ConfigurationError(
      f"{budget} leaves the size open, which launch.train chooses on the machine that trains. Give "
      "this command the size: the config.gin of that run."
    )
