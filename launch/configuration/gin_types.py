"""Checks values of gin files against the annotations of the parameters that they are bound to.

pydantic compares values with annotations, gin_references.py what a @reference returns.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import pydantic
from pydantic_core import PydanticCustomError

from .gin_names import ResolvedReference
from .gin_references import fits, function_type, given_type, in_words, mismatch

_CONFIG = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
_VALUES = (int, float, str, bool, complex, bytes, type(None))
_CONTAINERS = (list, tuple, dict, set, frozenset, Collection, Iterable, Sequence, Mapping)
# Words for users, instead of pydantic's, which are for programmers.
_WORDS = {
  "bool_type": "be True or False",
  "dict_type": "be a dictionary",
  "float_type": "be a number",
  "int_type": "be a whole number",
  "is_instance_of": "be a tuple or a list",
  "mapping_type": "be a dictionary",
  "missing": "have more items",
  "none_required": "be None",
  "sequence_str": "be a tuple of texts, not a text",
  "string_too_short": "not be empty",
  "string_type": "be text in quotes",
  "too_long": "have fewer items",
  "tuple_type": "be a tuple",
}


class Problem(NamedTuple):
  """What is wrong with a value, or with a part of it."""

  path: tuple[Any, ...]  # the keys and indices that lead to the part
  is_key: bool  # whether the last of these keys is wrong itself, not its value
  wanted: str  # what the value should do: "be a whole number"


def problems(annotation: Any, value: Any) -> list[Problem]:
  """Returns where a value is not as annotated; a @reference counts as what it will return."""
  adapter = _adapter(annotation)
  if adapter is None:
    return []
  try:
    adapter.validate_python(value)
  except pydantic.ValidationError as error:
    found: dict[tuple[tuple[Any, ...], bool], list[str]] = {}
    for one in error.errors(include_url=False, include_context=False):
      place = (_path(value, one["loc"]), "[key]" in one["loc"])
      found.setdefault(place, []).append(_words(one["type"], one["msg"]))
    return [
      Problem(path, is_key, _either(words, annotation if not path else None))
      for (path, is_key), words in found.items()
    ]
  return []


def _path(value: Any, loc: Sequence[Any]) -> tuple[Any, ...]:
  """Returns the keys in pydantic's `loc` without the types that it tried."""
  path: list[Any] = []
  for key in loc:
    if isinstance(value, dict) and key in value:
      value = value[key]
    elif isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
      value = value[key]
    else:
      continue
    path.append(key)
  return tuple(path)


def _words(kind: str, message: str) -> str:
  return _WORDS.get(kind, message.removeprefix("Input should "))


def _either(words: Sequence[str], annotation: Any) -> str:
  """Joins alternatives: "be a number or one of 'a', 'b', or None"."""
  if type(None) in typing.get_args(annotation):
    words = [*words, "be None"]
  first, *others = dict.fromkeys(words)
  return " or ".join([first, *(other.removeprefix("be ") for other in others)])


# ---- Annotations as pydantic checks them


@functools.cache
def _cached(annotation: Any) -> pydantic.TypeAdapter | None:
  try:
    return pydantic.TypeAdapter(_checked(annotation), config=_CONFIG)
  except (pydantic.errors.PydanticUserError, NameError, TypeError):
    return None  # pydantic does not understand every annotation of other packages.


def _adapter(annotation: Any) -> pydantic.TypeAdapter | None:
  try:
    return _cached(annotation)
  except TypeError:  # It cannot be hashed.
    return _cached.__wrapped__(annotation)


def _checked(annotation: Any) -> Any:
  """Returns the annotation with a reference allowed for every part of it."""
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if annotation in (Any, object) or isinstance(annotation, typing.TypeVar | str):
    return Any
  if annotation is None or annotation is type(None):
    return None
  if origin is Annotated:
    inner, *metadata = arguments
    return _open(annotation, Annotated[(_container(inner), *metadata)])
  if origin in (typing.Union, types.UnionType):
    return typing.Union[tuple(map(_checked, arguments))]  # noqa: UP007
  if annotation in _VALUES or annotation in _CONTAINERS or origin in _CONTAINERS:
    return _open(annotation, _container(annotation))
  if origin is typing.Literal or typing.is_typeddict(annotation):
    return _open(annotation, annotation)
  if origin is type:
    return _open(annotation, type)
  return _open(annotation, Annotated[Any, pydantic.PlainValidator(_refuse(annotation))])


def _container(annotation: Any) -> Any:
  """Returns a container's annotation with references allowed in it, and lists for tuples."""
  origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
  if annotation is float:
    return Annotated[float, pydantic.BeforeValidator(_short)]
  if origin not in _CONTAINERS:
    return annotation
  if arguments:
    annotation = origin[tuple(x if x is ... else _checked(x) for x in arguments)]
  if origin is tuple:
    as_tuple = pydantic.BeforeValidator(lambda x: tuple(x) if isinstance(x, list) else x)
    annotation = Annotated[annotation, as_tuple]
  return annotation


def _short(value: Any) -> Any:
  """Refuses whole numbers of more than 32 bits for a float: JAX cannot convert them."""
  if isinstance(value, int) and abs(value) >= 2**31:
    raise _should(f"be written with a point: {float(value) if abs(value) < 1e38 else 1e9}")
  return value


def _open(annotation: Any, checked: Any) -> Any:
  """Allows what `checked` allows, and a reference that returns what is annotated."""

  def validate(value, handler):
    if not isinstance(value, ResolvedReference):
      return handler(value)
    if not value.target.missing and not fits(given_type(value), annotation):
      raise _should(mismatch(value, annotation))
    return value

  return Annotated[checked, pydantic.WrapValidator(validate)]


def _refuse(annotation: Any) -> Callable[[Any], Any]:
  """Refuses all values: only a reference can be of this type."""

  def validate(value):
    if inspect.isabstract(annotation) and isinstance(value, annotation):
      return value
    written = "@NAME" if function_type(annotation) else "@NAME()"
    raise _should(f"be {in_words(annotation)} (written {written})")

  return validate


def _should(wanted: str) -> PydanticCustomError:
  return PydanticCustomError("reference", "Input should {wanted}", {"wanted": wanted})
