"""Resolves the names in gin files: modules, their functions and classes, parameters."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gin import config_parser

from ..process.errors import ConfigurationError, did_you_mean
from .gin_text import SourceLocation

Imports = dict[str, types.ModuleType]


@dataclasses.dataclass(frozen=True)
class Target:
  """A function or class that gin binds, and where it is."""

  object: Any
  module: str
  path: str  # of attributes inside the module

  def __str__(self):
    return f"{self.module}.{self.path}"

  @property
  def written(self) -> str:
    """The name as a gin file writes it that imports the module."""
    return f"{self.module.rpartition('.')[2]}.{self.path}"

  @property
  def missing(self) -> bool:
    """Whether a MissingModule stands for its module."""
    return getattr(self.object, "left_out", False)

  @property
  def parameters(self) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(self.object).parameters

  @property
  def required(self) -> list[str]:
    """Parameters without a default."""
    return [
      name
      for name, parameter in self.parameters.items()
      if parameter.default is parameter.empty
      and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]

  def check_parameter(self, name: str, location: SourceLocation) -> None:
    """Raises ConfigurationError if it has no such parameter."""
    parameters = self.parameters
    if name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
      return
    advice = did_you_mean(name, parameters) or f" It has {listed(parameters)}."
    raise ConfigurationError(f"{self.path} has no parameter {name!r}.{advice}{location.quoted()}")


@dataclasses.dataclass(frozen=True)
class ResolvedReference:
  """@scope/target in a value, or, to be evaluated, @scope/target()."""

  scope: str
  target: Target
  evaluate: bool


def resolve(selector: str, imports: Imports, location: SourceLocation) -> Target | None:
  """Returns the function or class that a dotted name means; None if its first part is not imported.

  Raises:
    ConfigurationError: there is no such attribute, or it is not callable.
  """
  first, *attributes = selector.split(".")
  if first not in imports:
    return None
  value: Any = imports[first]
  module, path = imports[first], []
  for attribute in attributes:
    if not hasattr(value, attribute):
      known = [name for name in dir(value) if not name.startswith("_")]
      raise ConfigurationError(
        f"{_describe(value)} has no {attribute!r}.{did_you_mean(attribute, known)}"
        f"{location.quoted()}"
      )
    value = getattr(value, attribute)
    path.append(attribute)
    if isinstance(value, types.ModuleType):
      module, path = value, []
  if not callable(value):
    raise ConfigurationError(
      f"{selector} is neither a function nor a class; gin binds only those.{location.quoted()}"
    )
  return Target(value, module.__name__, ".".join(path))


def _describe(value: Any) -> str:
  if isinstance(value, types.ModuleType):
    return f"The module {value.__name__}"
  return str(getattr(value, "__qualname__", value))


class MissingModule(types.ModuleType):
  """Stands for a module that is not imported: every name in it is a function of any parameters."""

  def __getattr__(self, name: str) -> Any:
    if name.startswith("__"):
      raise AttributeError(name)

    def missing(**_: Any) -> None:
      raise RuntimeError(f"{self.__name__}.{name} was left out.")

    missing.left_out = True  # type: ignore[attr-defined]
    self.__dict__[name] = missing  # The next access returns the same function.
    return missing


def import_module(
  statement: config_parser.ImportStatement, location: SourceLocation, without: Sequence[str] = ()
) -> Imports:
  """Returns the one name that an import statement of a gin file binds, and its module.

  Args:
    without: packages that are not imported; a MissingModule takes the place of their modules.

  Raises:
    ConfigurationError: there is no such module, or it cannot be imported.
  """
  if statement.is_from and statement.module.startswith("__gin__."):
    return {}  # Dynamic registration, which every file has.
  if any(f"{statement.module}.".startswith(f"{package}.") for package in without):
    return {statement.bound_name(): _missing_module(statement.module)}
  try:
    module = importlib.import_module(statement.module)
  except SyntaxError as error:
    raise ConfigurationError(
      f"{statement.module} cannot be imported: {error.msg} ({error.filename}, line {error.lineno})."
      f"{location.quoted()}"
    ) from error
  except ImportError as error:
    if error.name and f"{statement.module}.".startswith(f"{error.name}."):
      raise ConfigurationError(_no_module(statement.module) + location.quoted()) from error
    raise ConfigurationError(
      f"{statement.module} cannot be imported: {error}.{location.quoted()}"
    ) from error
  name = statement.bound_name()
  # `import a.b` binds a, the other forms bind the module itself.
  return {name: module if statement.is_from or statement.alias else sys.modules[name]}


@functools.cache
def _missing_module(module: str) -> MissingModule:
  return MissingModule(module)


def _no_module(module: str) -> str:
  """Returns a message: which part of a dotted module does not exist, and what does."""
  parts = module.split(".")
  for i in range(len(parts) - 1, 0, -1):
    name, missing = ".".join(parts[:i]), parts[i]
    try:
      parent = importlib.import_module(name)
    except ImportError:
      continue
    if hasattr(parent, missing):
      head, _, tail = name.rpartition(".")
      write = f"from {head} import {tail}" if head else f"import {tail}"
      return (
        f"gin imports modules, and {missing} is something inside the module {name}: "
        f"write `{write}` and use {tail}.{missing}."
      )
    inside = [info.name for info in pkgutil.iter_modules(getattr(parent, "__path__", []))]
    advice = did_you_mean(missing, inside) or (f" It has {listed(inside)}." if inside else "")
    return f"{name} has no module {missing!r}.{advice}"
  return f"There is no Python module {module!r}."


def listed(names: Iterable[str], most: int = 24) -> str:
  """Returns the names in alphabetical order, `most` of them at most."""
  names = sorted(names)
  return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
