"""The types of what @references in gin files return, compared with annotations."""

import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typing_extensions

from .gin_names import ResolvedReference


def annotations(target: Any) -> dict[str, Any]:
  """Returns {parameter: annotation} of a function or class; {} if they cannot be resolved."""
  annotated = target
  if inspect.isclass(target) and not hasattr(target, "__dataclass_fields__"):
    annotated = target.__new__ if issubclass(target, tuple) else target.__init__
  try:
    return typing.get_type_hints(annotated, include_extras=True)
  except (NameError, TypeError, AttributeError):  # Types that exist for type checkers only.
    return {}


class FunctionType(NamedTuple):
  """A function as a type: what it returns."""

  returns: Any


def given_type(reference: ResolvedReference) -> Any:
  """Returns the type of what a reference stands for."""
  target = reference.target.object
  if not reference.evaluate:
    return FunctionType(_returned(target))
  return _returned(target)


def _returned(target: Any) -> Any:
  if inspect.isclass(target):
    return target
  return annotations(target).get("return", Any)


def fits(given: Any, wanted: Any) -> bool:
  """Returns whether a value of type `given` is allowed where `wanted` is annotated.

  Unknown types are always allowed.
  """
  if typing.get_origin(wanted) is Annotated:
    wanted = typing.get_args(wanted)[0]
  if typing.get_origin(given) is Annotated:
    given = typing.get_args(given)[0]
  if any(x in (Any, object) or isinstance(x, typing.TypeVar | str) for x in (given, wanted)):
    return True
  if is_union(given):
    return any(fits(part, wanted) for part in typing.get_args(given))
  if is_union(wanted):
    return any(fits(given, part) for part in typing.get_args(wanted))
  if typing.get_origin(wanted) is typing.Literal:
    return any(fits(given, type(choice)) for choice in typing.get_args(wanted))
  if (wanted_function := function_type(wanted)) is not None:
    function = function_type(given)
    return function is not None and fits(function.returns, wanted_function.returns)
  if isinstance(given, FunctionType):
    return False
  given, wanted = typing.get_origin(given) or given, typing.get_origin(wanted) or wanted
  if not (inspect.isclass(given) and inspect.isclass(wanted)):
    return True
  if typing_extensions.is_protocol(wanted):
    members = typing_extensions.get_protocol_members(wanted)
    return all(hasattr(given, name) for name in members if callable(getattr(wanted, name, None)))
  return issubclass(given, wanted) or (wanted is float and given is int)


def is_union(kind: Any) -> bool:
  """Returns whether a type is `A | B` or Union[A, B]."""
  return typing.get_origin(kind) in (typing.Union, types.UnionType)


def function_type(kind: Any) -> FunctionType | None:
  """Returns a type of functions as FunctionType; None for other types."""
  if isinstance(kind, FunctionType):
    return kind
  if kind is Callable or kind is typing.Callable:
    return FunctionType(Any)
  if typing.get_origin(kind) is Callable:
    return FunctionType(typing.get_args(kind)[-1])
  call = kind.__dict__.get("__call__") if inspect.isclass(kind) else None
  return FunctionType(_returned(call)) if call else None


def mismatch(reference: ResolvedReference, wanted: Any) -> str:
  """Returns what a wrong reference should be, and what it returns now."""
  given = given_type(reference)
  name = reference.target.written
  if isinstance(given, FunctionType) and fits(given.returns, wanted):
    return f"be {in_words(wanted)}: write @{name}(), with parentheses"
  if not isinstance(given, FunctionType) and fits(FunctionType(given), wanted):
    return f"be {in_words(wanted)}: write @{name}, without parentheses"
  return f"be {in_words(wanted)} (not {in_words(given)})"


def in_words(kind: Any) -> str:
  """Returns a type in words."""
  if typing.get_origin(kind) is Annotated:
    return in_words(typing.get_args(kind)[0])
  if is_union(kind):
    return " or ".join(map(in_words, typing.get_args(kind)))
  if kind in (None, type(None)):
    return "None"
  if (function := function_type(kind)) is not None:
    gives = "" if function.returns is Any else f" that gives {in_words(function.returns)}"
    return f"a function{gives}"
  name = getattr(kind, "__name__", str(kind)).rpartition(".")[2]
  return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
