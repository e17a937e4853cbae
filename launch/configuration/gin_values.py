"""What gin files bind, read without importing what they name: for commands that train nothing."""

import dataclasses
import types
from collections.abc import Callable, Sequence
from typing import Any

from gin import config_parser

from ..process.errors import ConfigurationError
from . import gin_references, gin_types
from .gin_files import Binding, GinFiles, parse_binding
from .gin_names import Imports
from .gin_text import Macro, Reference, SourceLocation, replace


@dataclasses.dataclass(frozen=True)
class Function:
  """A reference in a value; `name` is the full name of the function or class, with its module."""

  name: str


class GinValues:
  """The values that files, and bindings of the command line after them, give to names."""

  def __init__(
    self,
    gin_files: Sequence[str],
    bindings: Sequence[str] = (),
    search_paths: Sequence[str] = (),
  ):
    """Reads the files.

    Raises:
      ConfigurationError: a file does not exist or is not gin.
    """
    files = GinFiles(search_paths, import_module=_named_module)
    for name in gin_files:
      files.read(name)
    given = [parse_binding(text, files.bindings, files.imports) for text in bindings]
    self._bindings = [*files.bindings, *given]
    self._macros = {b.selector: b for b in self._bindings if not b.argument}

  def macro(self, name: str, default: Any = None) -> Any:
    """Returns the value of a macro; in it a reference is a Function.

    Raises:
      ConfigurationError: a macro in it is not set, or needs its own value.
    """
    return self._resolved(self._macros[name], (name,)) if name in self._macros else default

  def parameters(self, name: str, kind: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Returns {parameter: value} of what is bound to a function or class outside of scopes.

    Args:
      name: the full name of the function or class, such as a.module.Class.
      kind: the function or class itself: values have to be what its annotations say.

    Raises:
      ConfigurationError: a macro is not set, or a value is of the wrong kind.
    """
    annotations = gin_references.annotations(kind) if kind else {}
    values = {}
    for b in self._bindings:
      if b.argument and not b.scope and _may_mean(_full_name(b.selector, b), name):
        value = values[b.argument] = self._resolved(b)
        if isinstance(value, Function):  # What it returns is not known.
          continue
        for problem in gin_types.problems(annotations.get(b.argument, Any), value):
          parameter, by = f"{name.rpartition('.')[2]}.{b.argument}", self._set_by(b)
          what = parameter if by is b else by.selector
          where = "" if by is b else f" (for {parameter})"
          raise ConfigurationError(
            f"{what} = {value!r} should {problem.wanted}{where}.{by.location.quoted()}"
          )
    return values

  def _set_by(self, binding: Binding) -> Binding:
    """Returns the binding that has the value: that of a macro, if the parameter is one."""
    while isinstance(binding.value, Macro):
      binding = self._macros[binding.value.name]
    return binding

  def _resolved(self, binding: Binding, inside: tuple[str, ...] = ()) -> Any:
    """Returns the bound value with every macro replaced; `inside` are the macros it is part of."""

    def meaning(macro: Macro) -> Any:
      if macro.name not in self._macros:
        raise ConfigurationError(f"{macro.name} is not set. Set it: --gin.{macro.name}=...")
      if macro.name in inside:
        circle = " -> ".join(f"%{name}" for name in (*inside, macro.name))
        raise ConfigurationError(f"%{macro.name} needs its own value: {circle}.")
      return self._resolved(self._macros[macro.name], (*inside, macro.name))

    value = replace(binding.value, Reference, lambda r: Function(_full_name(r.selector, binding)))
    return replace(value, Macro, meaning)


def _named_module(statement: config_parser.ImportStatement, location: SourceLocation) -> Imports:
  """Returns an empty module of the right name: importing those of the data loads TensorFlow."""
  name = statement.bound_name()
  own = statement.module if statement.is_from or statement.alias else name
  return {name: types.ModuleType(own)}


def _full_name(selector: str, binding: Binding) -> str:
  """Returns a selector with the name of its module, as far as the binding's file imports it."""
  first, dot, rest = selector.partition(".")
  return f"{binding.imports[first].__name__}{dot}{rest}" if first in binding.imports else selector


def _may_mean(given: str, name: str) -> bool:
  """Returns whether `given` may be the function or class `name`.

  It may be written with a shorter module, or with the package that exports it.
  """
  module, _, last = given.rpartition(".")
  own, _, wanted = name.rpartition(".")
  exported = not module or f"{own}.".startswith(f"{module}.") or own.endswith(f".{module}")
  return last == wanted and exported
