"""Checks of all bindings together, before anything is built."""

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..process.errors import ConfigurationError, did_you_mean, nearest
from . import gin_references, gin_types
from .gin_files import COMMAND_LINE, shipped_files
from .gin_names import ResolvedReference, Target, listed
from .gin_text import Macro, SourceLocation, Verbatim, find, join, replace

_MOST_MISTAKES = 12
_MOST_FILES = 8  # A macro that more files set is no reason to include one of them.
_LONGEST_VALUE = 120


@dataclasses.dataclass(frozen=True)
class Bound:
  """A value bound to a parameter, or to a macro (target None), with all its names resolved."""

  scope: str
  target: Target | None
  name: str
  value: Any
  location: SourceLocation
  replaces: "Bound | None" = None  # what an earlier file or line had bound

  def history(self) -> Iterator["Bound"]:
    """Yields this one, then what it replaces, then what that one has replaced, ..."""
    yield self
    if self.replaces:
      yield from self.replaces.history()


Macros = Mapping[str, Bound]


def check_macros(macros: Macros, every: Collection[Bound]) -> None:
  """Checks that every used macro is set, and that no macro of the command line is unused."""
  used: dict[str, SourceLocation] = {}
  for bound in every:
    for macro in find(bound.value, Macro):
      used.setdefault(macro.name, bound.location)
  mistakes, explained = [], set()
  for name, location in used.items():
    if name not in macros and name != "gin.REQUIRED":
      slips = [other for other in macros if _one_slip_apart(name, other)]
      near = nearest(name, macros.keys() - used.keys(), 1) or slips
      explained.update(near[:1])
      mistakes.append(_unset_macro(name, location, near))
  for bound in every:
    if Macro("gin.REQUIRED") in find(bound.value, Macro):
      name = f"{bound.target.written}.{bound.name}" if bound.target else bound.name
      mistakes.append(_unset_macro(name, bound.location))
  for name, bound in macros.items():
    if bound.value != Macro("gin.REQUIRED") and name not in used.keys() | explained:
      mistakes.append(_unused_macro(bound, used))
  _report(mistakes)


def check_scopes(every: Collection[Bound]) -> None:
  """Checks that a @scope/reference enters every scope in which something is bound."""
  entered = {
    part
    for bound in every
    for reference in find(bound.value, ResolvedReference)
    for part in reference.scope.split("/")
  }
  mistakes = []
  for bound in every:
    unknown = [part for part in bound.scope.split("/") if part and part not in entered]
    if unknown:
      advice = did_you_mean(unknown[0], entered - {""})
      mistakes.append(
        f"No reference enters the scope {unknown[0]!r}, so this has no effect.{advice} Write "
        f"@{bound.scope}/name() where it should hold, or remove the scope.{bound.location.quoted()}"
      )
  _report(mistakes)


def check_circles(macros: Macros, parameters: Iterable[Bound]) -> None:
  """Checks that no macro needs its own value, and that no call needs its own result."""
  parameters = list(parameters)
  path: dict[Any, str] = {}  # {key: name as written} on the way to the current one
  done: set[Any] = set()

  def follow(
    key: Any, written: str, inside: Iterable[Bound], scope: str, location: SourceLocation
  ) -> None:
    if key in path:
      circle = " -> ".join([*list(path.values())[list(path).index(key) :], written])
      raise ConfigurationError(f"{written} needs its own value: {circle}.{location.quoted()}")
    if key in done:
      return
    path[key] = written
    for bound in inside:
      for macro in find(bound.value, Macro):
        if macro.name in macros:
          follow(macro.name, f"%{macro.name}", [macros[macro.name]], scope, bound.location)
      for reference in find(bound.value, ResolvedReference):
        if reference.evaluate:
          call(reference.scope or scope, reference.target, bound.location)
    del path[key]
    done.add(key)

  def call(scope: str, target: Target, location: SourceLocation) -> None:
    inside = [
      bound
      for bound in parameters
      if bound.target
      and bound.target.object is target.object
      and (not bound.scope or f"{scope}/".startswith(f"{bound.scope}/"))
    ]
    follow((scope, id(target.object)), f"@{join(scope, target.written)}()", inside, scope, location)

  for bound in parameters:
    if bound.target:
      call(bound.scope, bound.target, bound.location)
  for name, bound in macros.items():
    follow(name, f"%{name}", [bound], "", bound.location)


def check_values(macros: Macros, parameters: Iterable[Bound]) -> None:
  """Checks that the value of every parameter is what its annotation says."""
  # A value that several parameters have counts once.
  mistakes: dict[tuple[SourceLocation, str], str] = {}
  for bound in parameters:
    if bound.target is None or bound.target.missing:
      continue
    annotation = gin_references.annotations(bound.target.object).get(bound.name, Any)
    for problem in gin_types.problems(annotation, _without_macros(bound.value, macros)):
      blamed = _blamed(macros, bound, problem.path)
      message = _wrong_value(macros, bound, blamed, problem)
      mistakes.setdefault((blamed.location, problem.wanted), message)
  _report(mistakes.values())


def _report(mistakes: Iterable[str]) -> None:
  mistakes = list(filter(None, mistakes))
  if mistakes:
    more = len(mistakes) - _MOST_MISTAKES
    lines = mistakes[:_MOST_MISTAKES] + [f"and {more} mistakes more."] * (more > 0)
    raise ConfigurationError("\n".join(lines))


def _without_macros(value: Any, macros: Macros) -> Any:
  """Returns a value with every macro replaced by what it stands for."""

  def meaning(macro):
    bound = macros.get(macro.name)
    return macro if bound is None else _without_macros(bound.value, macros)

  try:
    return replace(value, Macro, meaning)
  except TypeError as error:
    raise ConfigurationError(f"A key of {_shown(value)} is a list or a dictionary.") from error


def _blamed(macros: Macros, bound: Bound, path: Sequence[Any]) -> Bound:
  """Returns the macro or parameter in whose text the part of a value at `path` is written."""
  value, keys = bound.value, list(path)
  while keys or isinstance(value, Macro):
    if isinstance(value, Macro):
      bound = macros[value.name]
      value = bound.value
    else:
      value = _at(value, keys.pop(0), macros)
  return bound


def _at(value: Any, key: Any, macros: Macros) -> Any:
  """Returns value[key]; a macro may stand for the key."""
  if isinstance(value, dict) and key not in value:
    return next(item for k, item in value.items() if _without_macros(k, macros) == key)
  return value[key]


def _wrong_value(macros: Macros, bound: Bound, blamed: Bound, problem: gin_types.Problem) -> str:
  assert bound.target is not None
  parameter = f"{bound.target.written}.{bound.name}"
  name, about = (parameter, "") if blamed is bound else (blamed.name, f" (for {parameter})")
  part, also = "", ""
  if blamed is not bound and bound.location.source == COMMAND_LINE:
    also = bound.location.quoted()
  if problem.path:
    value = _without_macros(bound.value, macros)
    for key in problem.path[:-1]:
      value = value[key]
    last = problem.path[-1]
    part = f": the key {_shown(last)}" if problem.is_key else f": {_shown(value[last])}"
  message = f"{name} = {_shown(blamed.value)}{part} should {problem.wanted}{about}."
  return f"{message}{blamed.location.quoted()}{also}"


def _shown(value: Any) -> str:
  """Returns a value as it is written in a gin file, shortened if it is long."""

  def reference(ref):
    return Verbatim(f"@{join(ref.scope, ref.target.written)}{'()' if ref.evaluate else ''}")

  text = repr(replace(value, ResolvedReference, reference))
  return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _unset_macro(name: str, location: SourceLocation, near: Sequence[str] = ()) -> str:
  files = shipped_files(rf"{re.escape(name)}\s*=")
  if near:
    advice = f". Did you mean {near[0]}, which is set?"
  elif 0 < len(files) <= _MOST_FILES:
    advice = f". Include one of {', '.join(files)}, or set it: --gin.{name}=..."
  else:
    advice = f". Set it: --gin.{name}=..."
  return f"{name} is not set{advice}{location.quoted()}"


def _unused_macro(bound: Bound, used: Mapping[str, SourceLocation]) -> str:
  """Returns a message about a macro that nothing uses, or "" if that is no mistake.

  On the command line it always is one. Files may set more than a run uses: there it is a mistake
  only if the name is a single typing error away from one that is used.
  """
  if bound.location.source == COMMAND_LINE:
    advice = did_you_mean(bound.name, used) or f" They use {listed(used)}."
    return f"The gin files use no macro {bound.name}.{advice}{bound.location.quoted()}"
  slips = [name for name in used if len(name) > 4 and _one_slip_apart(bound.name, name)]
  if not slips:
    return ""
  return (
    f"{bound.name} is set, but nothing uses it. Did you mean {slips[0]}?{bound.location.quoted()}"
  )


def _one_slip_apart(a: str, b: str) -> bool:
  """Returns whether one letter is missing, added or different, or two neighbours are swapped."""
  a, b = sorted((a, b), key=len)
  i = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
  if len(a) < len(b):
    return a[i:] == b[i + 1 :]
  swapped = a[i : i + 2] == b[i : i + 2][::-1] and a[i + 2 :] == b[i + 2 :]
  return swapped or a[i + 1 :] == b[i + 1 :]
