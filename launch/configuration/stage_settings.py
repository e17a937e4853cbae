"""The settings of the stages of a run: STAGES of the gin files becomes a Configuration of each.

    STAGES = {
        "long rows": {"after_steps": 900, "TASK_FEATURE_LENGTHS": {"inputs": 1024}},
        "decay": {"after_steps": 1000, "CORPUS_RATES": {"code": 1, "prose": 4}},
    }

A run begins with the settings of its gin files. After `after_steps` the macros of a stage get other
values, and keep them in the stages that follow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from t5x_style.errors import shortened

from ..process.errors import ConfigurationError, did_you_mean
from .gin_text import Macro, SourceLocation
from .reader import Configuration

MACRO = "STAGES"
AFTER = "after_steps"
FIRST = "start"  # the name of the stage before those of STAGES
_OURS = "t5x_style."
_DATA = "t5x_style.data."
_STAGES = "t5x_style.training.train_config.TrainConfig.stages"


class StageSettings(NamedTuple):
  """The settings of a stage that follows another one."""

  name: str
  after_steps: int  # the steps before it
  macros: Mapping[str, Any]  # all that differ from the gin files
  location: SourceLocation

  @contextlib.contextmanager
  def active(self, settings: Configuration) -> Iterator[Configuration]:
    """A context in which gin has the configuration of this stage; returns it."""
    try:
      yield settings.with_macros(self.macros, self.location)
    finally:
      settings.use()


class Chosen(NamedTuple):
  """A stage that a command shows.

  Attributes:
    settings: of the stage; gin has them.
    number: counts from 1.
    note: says which stages there are; "" for a run of one stage.
  """

  settings: Configuration
  number: int
  note: str


def chosen(settings: Configuration, name: str | None, *, checked: bool = True) -> Chosen:
  """Returns the stage of a name; the first one if it is None.

  Args:
    checked: as of `stages`.

  Raises:
    ConfigurationError: there is no such stage, or as `stages`.
  """
  later = stages(settings, checked=checked)
  names = [FIRST, *(stage.name for stage in later)]
  if name is not None and (name not in names or not later):
    present = f"its stages are {', '.join(map(repr, names))}" if later else "it has no STAGES"
    raise ConfigurationError(f"--stage={name!r} is no stage of this run: {present}.")
  if not later:
    return Chosen(settings, 1, "")
  index = names.index(name or FIRST)
  if index:
    settings = settings.with_macros(later[index - 1].macros, later[index - 1].location)
  others = ", ".join(f"--stage={other!r}" for other in names if other != names[index])
  note = f"Stage {index + 1} of {len(names)}, {names[index]!r}; for the others: {others}."
  return Chosen(settings, index + 1, note)


def stages(settings: Configuration, *, checked: bool = True) -> list[StageSettings]:
  """Returns the stages of a run after its first one; [] for a run of one stage.

  Args:
    checked: whether a stage may set a macro is checked. It cannot be where a command has replaced
      what uses the macro.

  Raises:
    ConfigurationError: STAGES is not as it should be, or a stage sets what may not change.
  """
  written = settings.written(MACRO)
  if written is None or not written.value:
    return []
  found: list[StageSettings] = []
  macros: dict[str, Any] = {}
  before = 0
  for name, values in written.value.items():
    where = f"{MACRO}: {name!r}"
    after = values.get(AFTER)
    after = settings.macro(after.name) if isinstance(after, Macro) else after
    changed = {key: value for key, value in values.items() if key != AFTER}
    if type(after) is not int or after <= before or not changed or name == FIRST:
      raise ConfigurationError(
        f"{where} = {dict(values)!r} should have {AFTER!r}, the steps that are trained before it, "
        f"more than the {before} before the stage that precedes it, and one macro or more with "
        f"another value, such as 'BATCH_SIZE': 64; the name {FIRST!r} is that of the first stage."
        f"{written.location.quoted()}"
      )
    for macro in changed if checked else ():
      _check(settings, macro, where, written.location)
    macros, before = macros | changed, after
    found.append(StageSettings(name, after, macros, written.location))
  return found


def of_step(settings: Configuration, step: int) -> Configuration:
  """Returns the configuration of the stage that trained a step; gin has it from then on.

  What other gin files or the command line set, after the file with STAGES, is kept.
  """
  begun = [stage for stage in stages(settings) if stage.after_steps < step]
  if not begun:
    return settings
  location = begun[-1].location
  macros = {
    name: value
    for name, value in begun[-1].macros.items()
    if settings.macros[name].location.source == location.source
  }
  return settings.with_macros(macros, location)


def _check(settings: Configuration, macro: str, where: str, location: SourceLocation) -> None:
  """Raises ConfigurationError if a stage must not set a macro."""
  if macro not in settings.macros:
    advice = did_you_mean(macro, settings.macros)
    raise ConfigurationError(
      f"{where} sets {macro}, which is no macro of the gin files.{advice} Set its first value "
      f"outside of {MACRO}, and use it as %{macro}.{location.quoted()}"
    )
  parameters = settings.parameters_with(macro)
  fixed = [name for name in parameters if name not in _allowed(parameters)]
  if fixed:
    raise ConfigurationError(
      f"{where} sets {macro}, which is {', '.join(shortened(fixed))}, which cannot change during a "
      "run. A stage may change the data (corpus, rates, objective, lengths, noise), the batch "
      "size, microbatches, dropout, rotary positions, attention windows, and what changes only "
      f"speed.{location.quoted()}"
    )
  if not parameters:
    raise ConfigurationError(f"{where} sets {macro}, which nothing uses.{location.quoted()}")


def _allowed(parameters: list[str]) -> set[str]:
  """Returns those of the parameters, by their full names, that a stage may change."""
  from t5x_style.training import stages as staged

  fields = {f"t5x_style.training.train_config.TrainConfig.{name}" for name in staged.OF_RUN}
  fields |= {f"t5x_style.models.config.TransformerConfig.{name}" for name in staged.OF_MODEL}
  fields |= {f"t5x_style.models.experts.Experts.{name}" for name in staged.OF_EXPERTS}
  prefixes = ("t5x_style.models.config.RotaryScaling.", _DATA, "t5x_style.training.synthetic.")
  return {
    name
    for name in parameters
    if name in fields or name == _STAGES or name.startswith(prefixes) or not name.startswith(_OURS)
  }
